"""Families with layers of several kinds and with experts: proved equal, scanned and served; and what cannot be."""

from __future__ import annotations

import numpy as np
import pytest

from impl.inputs import batches
from impl.params import draw
from impl.programs import batch
from impl.sides import side
from impl.tiny import family
from impl.training.settings import TrainSettings
from tests.impl.test_staging import EVERY_PART, proved


@pytest.mark.parametrize(("name", "scan"), [("mixtral", False), ("deepseek", True)])
def test_the_whole_train_step_is_proved(name, scan):
    found = proved("linen", "nnx", family(name, scan_layers=scan))
    assert list(found) == EVERY_PART
    assert all(proof.proved for proof in found.values())
    sown = {"loss/moe_lb_loss", "loss/moe_expert_loads"} & set(found["gradients"].equal)
    assert len(sown) == {"mixtral": 1, "deepseek": 2}[name]
    assert "loss/learning/moe_lb_loss" in found["step"].equal


def test_scanned_layers_are_the_same_ones_written_out_and_so_is_what_they_sow():
    assert proved("nnx", "nnx", family("gpt_oss"), "forward", scan_layers=True)["forward"].proved
    found = {}
    for scan in (False, True):
        config = family("mixtral", scan_layers=scan, num_decoder_layers=2, max_target_length=12)
        made = batches(rows=2, length=12, steps=1, seed=3)
        trainer = side("nnx").Trainer(config, TrainSettings(), draw(config, 3))
        found[scan] = trainer.gradients(batch(made, 0))
    # The mean over layers is summed in one order or the other: one rounding.
    assert found[True][1].aux["moe_lb_loss"] == pytest.approx(found[False][1].aux["moe_lb_loss"], rel=2e-7)
    gate = "decoder/layers/1/MoeBlock_0/gate/kernel"
    np.testing.assert_allclose(
        found[True][0][gate], found[False][0][gate], atol=1e-6 * np.abs(found[True][0][gate]).max()
    )


def test_serving_is_proved_through_caches_of_a_cycle():
    found = proved("linen", "nnx", family("gpt_oss", scan_layers=True, sparse_matmul=True), "decode")
    assert all(proof.proved for proof in found.values())
    cached = [name for name in found["generate"].equal if "GptOssAttention/KVCache_0/cached_ar_key" in name]
    assert len(cached) == 4


def test_factors_of_experts_in_kernels_or_in_weights_are_not_one_graph():
    config = family("mixtral", per_expert_scale=True)
    assert not proved("nnx", "nnx", config, "gradients", fuse_expert_scales=True)["gradients"].proved
