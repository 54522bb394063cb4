"""Quantised training beside its scenario: names of statistics, what is refused, what is saved, claims that can fail."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from harness.digest import of_settings
from impl import fp8_programs
from impl.checkpoint import convert, load_tree, save_tree
from impl.config import ConfigError, tiny
from impl.fp8_programs import Seen
from impl.params import draw
from impl.serving.requests import check_servable
from impl.sides import side
from impl.statistics import LEAVES, statistic_addresses
from impl.tiny import FAMILIES, family
from impl.training.settings import TrainSettings
from tests.impl.test_staging import proved

SMALL = family("gpt3", quantization="fp8", amax_history_length=3, scan_layers=True)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_projection_inside_a_block_has_six_statistics_and_nothing_else_has(name):
    config = family(name, quantization="fp8_nanoo")
    table = statistic_addresses(config, "layers/{i}")
    owners = {each.partition("/dot_general/")[0] for each in table}
    kernels = {each.removesuffix("/kernel") for each in draw(config, 0) if each.endswith("/kernel")}
    assert owners == kernels - {"decoder/logits_dense"}
    assert len(table) == len(owners) * len(LEAVES) == len(owners) * 6
    assert statistic_addresses(family(name), "layers/{i}") == {}


def test_statistics_are_stacked_at_axis_0_wherever_kernels_are():
    for axis in (0, 1):
        config = family("llama2", quantization="fp8", scan_layers=True, param_scan_axis=axis)
        address = statistic_addresses(config, "layers_{i}")["decoder/layers/2/mlp/wo/dot_general/kernel_scale"]
        assert address.path == ("decoder", "layers", "mlp", "wo", "dot_general", "kernel_scale")
        assert (address.axis, address.index) == (0, 2)
    apart = statistic_addresses(family("llama2", quantization="fp8"), "layers_{i}")
    assert str(apart["decoder/layers/2/mlp/wo/dot_general/kernel_scale"]).startswith("decoder.layers_2.mlp.wo.")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"quantization": "int8"}, ("quantization='int8'", "'' (none), fp8, fp8_gpu, fp8_nanoo")),
        ({"quantization": "fp8", "amax_history_length": 0}, ("amax_history_length=0", "at least 1")),
    ],
    ids=["flavour", "history"],
)
def test_what_makes_no_sense_is_refused(settings, words):
    with pytest.raises(ConfigError) as refused:
        tiny(**settings)
    assert [word for word in words if word not in str(refused.value)] == []


def test_a_quantised_model_is_not_served():
    check_servable(family("llama2"))
    with pytest.raises(ValueError, match=r"quantization='fp8' is for training.*with quantization=''"):
        check_servable(family("llama2", quantization="fp8"))


def test_a_model_without_quantisation_keeps_the_digest_that_it_had():
    assert of_settings(tiny()) == of_settings(tiny(quantization="", amax_history_length=1024))
    assert of_settings(tiny()) != of_settings(tiny(quantization="fp8"))
    assert of_settings(tiny()) != of_settings(tiny(amax_history_length=16))
    assert of_settings(tiny()) == "5583a7c18b69469396b30323f9155d409d8f7421c12b69d01df634957be72455"


@pytest.mark.parametrize("name", ["linen", "nnx"])
def test_statistics_start_as_flax_starts_them_and_come_back_from_a_saved_tree(name):
    trainer = side(name).Trainer(SMALL, TrainSettings(), draw(SMALL, 1))
    start = trainer.statistics()
    assert set(start) == set(statistic_addresses(SMALL, "layers_{i}"))
    assert {value.shape for each, value in start.items() if each.endswith("history")} == {(3,)}
    assert {float(value) for each, value in start.items() if each.endswith("scale") for value in value} == {1.0}
    assert {float(np.abs(value).max()) for each, value in start.items() if each.endswith("history")} == {0.0}
    assert not any(each.endswith(LEAVES) for each in [*trainer.slots(), *trainer.weights(), *trainer.structure()])
    changed = _moved(trainer.tree())
    trainer.restore(changed)
    assert all(not np.array_equal(value, start[each]) for each, value in trainer.statistics().items())


def _moved(tree):
    """The tree with every leaf of a statistic changed."""
    return {
        key: _moved(leaf) if isinstance(leaf, dict) else leaf + np.float32(0.5) if key in LEAVES else leaf
        for key, leaf in tree.items()
    }


def history():
    """Two moments of one product as training leaves them, and the weights before the first step."""
    kernel, name = np.asarray([[0.3, -0.7], [0.2, 0.1]], np.float32), "decoder/layers/0/mlp/wo"
    start = {f"{tensor}_amax_history": (0.0, 0.0, 0.0) for tensor in ("input", "kernel", "output_grad")}
    start |= {f"{tensor}_scale": (1.0,) for tensor in ("input", "kernel", "output_grad")}
    one = {**start, "input_amax_history": (2.5, 0, 0), "kernel_amax_history": (0.7, 0, 0)}
    one["output_grad_amax_history"] = (0.01, 0, 0)
    two = {**one, "input_amax_history": (3.5, 0, 2.5), "kernel_amax_history": (0.7, 0, 0.7)}
    two |= {"output_grad_amax_history": (0.02, 0, 0.01), "input_scale": (2.5 / 448,), "kernel_scale": (0.7 / 448,)}
    two["output_grad_scale"] = (0.01 / 57344,)
    return [
        Seen(
            {f"{name}/dot_general/{leaf}": np.asarray(value, np.float32) for leaf, value in each.items()},
            {f"{name}/kernel": kernel},
        )
        for each in (start, one, two)
    ]


def test_claims_hold_of_statistics_as_they_should_be():
    told = fp8_programs.claims(SMALL, history(), ["0/mu/decoder/layers/0/mlp/wo/kernel"])
    assert [name for name, held in told.items() if not held] == []
    assert list(fp8_programs.state(history()))[::6] == [
        f"{moment}/decoder/layers/0/mlp/wo/dot_general/input_amax_history" for moment in ("start", "step0", "step1")
    ]


BROKEN = {
    "kernels' amaxes are those of the kernels": ("kernel_amax_history", (0.35, 0, 0.7)),
    "histories turn by one": ("input_amax_history", (3.5, 2.5, 0)),
    "scales follow from the histories before the step": ("output_grad_scale", (0.01 / 448,)),
    "no scale is 1 after the steps": ("input_scale", (1.0,)),
    "every amax history moved": ("input_amax_history", (0, 0, 0)),
}


@pytest.mark.parametrize("claim", BROKEN)
def test_claims_are_false_of_statistics_as_they_should_not_be(claim):
    (leaf, wrong), seen = BROKEN[claim], history()
    seen[2].statistics[f"decoder/layers/0/mlp/wo/dot_general/{leaf}"][:] = wrong
    assert not fp8_programs.claims(SMALL, seen, [])[claim]


def test_a_slot_of_a_statistic_is_told():
    told = fp8_programs.claims(SMALL, history(), ["0/mu/decoder/layers/0/mlp/wo/dot_general/input_scale"])
    assert not told["the optimizer has no slot for a statistic"]


@pytest.mark.parametrize(
    ("flavour", "settings", "train"),
    [
        ("fp8", {}, {}),
        ("fp8_gpu", {"scan_layers": True, "dtype": "bfloat16"}, {}),
        ("fp8_nanoo", {"scan_layers": True, "remat_policy": "full"}, {"gradient_accumulation_steps": 3}),
    ],
    ids=["fp8", "fp8_gpu", "fp8_nanoo"],
)
def test_the_whole_train_step_of_every_flavour_is_proved(flavour, settings, train):
    config = family("fused", quantization=flavour, num_decoder_layers=2, **settings)
    found = proved("linen", "nnx", config, train=TrainSettings(**train))
    assert [part for part, proof in found.items() if not proof.proved] == []
    assert any(name.endswith("dot_general/output_grad_amax_history") for name in found["step"].equal)


@pytest.mark.parametrize(("side", "other"), [("linen", "linen"), ("nnx", "nnx"), ("linen", "nnx_linen_dots")])
def test_scanned_products_compute_what_products_written_out_compute(side, other):
    found = proved(side, other, family("gpt3", quantization="fp8_gpu"), scan_layers=True)["gradients"]
    assert found.proved
    assert any(name.endswith("dot_general/kernel_scale") for name in found.equal)


def test_either_sides_checkpoint_is_taken_up_by_the_other_with_slots_and_statistics(tmp_path):
    """Flax's train state keeps slots without a params level beside statistics: a converter must know."""
    trainers = {name: side(name).Trainer(SMALL, TrainSettings(), draw(SMALL, 4), 5) for name in ("linen", "nnx")}
    random = np.random.default_rng(1)

    def moved(leaf):
        drawn = random.standard_normal(leaf.shape).astype(leaf.dtype) if leaf.dtype.kind == "f" else leaf
        return np.asarray(drawn)

    for saves, loads in (("linen", "nnx"), ("nnx", "linen")):
        saving, taking = trainers[saves], trainers[loads]
        saving.restore(jax.tree.map(moved, saving.tree()))
        save_tree(tmp_path / saves, saving.tree())
        convert(tmp_path / saves, tmp_path / f"for {loads}", to=loads, layout="keep", scan_axis=1)
        taking.restore(load_tree(tmp_path / f"for {loads}"))
        for kept in ("weights", "slots", "statistics"):
            expected, found = getattr(saving, kept)(), getattr(taking, kept)()
            assert list(found) == list(expected) != []
            for name, value in expected.items():
                np.testing.assert_array_equal(found[name], value, err_msg=name, strict=True)
