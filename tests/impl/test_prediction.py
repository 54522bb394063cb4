"""Layers that predict further on both sides: their tree, nothing twice, packed rows, accumulation, refusals."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from impl.config import ConfigError
from impl.inputs import batches
from impl.latent import PEAKS
from impl.names import addresses, gather, scatter
from impl.nnx.sown import passed
from impl.nnx.state import filled, state_paths
from impl.nnx.transformer import Transformer
from impl.params import declare, draw
from impl.programs import batch
from impl.sharding.default import DEFAULT
from impl.sharding.mesh import abstract_mesh
from impl.sides import side
from impl.stacks import predictors
from impl.tiny import family
from impl.training.auxiliary import blank, moved_biases
from impl.training.clip import clipped_heads
from impl.training.objective import Batch, metrics
from impl.training.preference import PreferenceBatch, check_pairs
from impl.training.settings import TrainSettings
from impl.trees import flat, nested
from tests.impl.test_params import expected_rows, linen_rows, nnx_rows
from tests.impl.test_staging import EVERY_PART, proved

SMALL = {"mtp_num_layers": 2, "num_decoder_layers": 2, "max_target_length": 12}
TIED = family("qwen3", **SMALL, scan_layers=True)
ONE = family("llama2", mtp_num_layers=1, num_decoder_layers=1, max_target_length=12)


def test_parameters_by_hand():
    rows = {row.name: row for row in declare(TIED)}
    first = [name.removeprefix("mtp_block/mtp_layer_1/") for name in rows if name.startswith("mtp_block/mtp_layer_1/")]
    assert first[:4] == [
        "mtp_1_embedding_norm/scale",
        "mtp_1_hidden_state_norm/scale",
        "mtp_1_projection/kernel",
        "mtp_1_transformer_layer/pre_self_attention_layer_norm/scale",
    ]
    kernel = rows["mtp_block/mtp_layer_2/mtp_2_projection/kernel"]
    assert (kernel.shape, kernel.axes, kernel.fan_in) == ((40, 20), ("embed", None), 40)
    assert sum(name.startswith("mtp_block") for name in rows) == 2 * (3 + 11)
    mixed = [place.kind for place in predictors(family("deepseek", mtp_num_layers=2))]
    assert mixed == ["moe", "moe"]
    assert [place.kind for place in predictors(family("gemma3", mtp_num_layers=1))] == ["local"]


@pytest.mark.parametrize("config", [TIED, family("deepseek", **SMALL, first_num_dense_layers=1)], ids=["tied", "moe"])
def test_states_hold_what_is_declared_and_nothing_twice(config):
    paths = {"linen": linen_rows(config), "nnx": nnx_rows(config)}
    for name, spelled in (("linen", "layers_{i}"), ("nnx", "layers/{i}")):
        assert set(paths[name]) == {address.path for address in addresses(config, spelled).values()}
    if config is TIED:
        assert paths["linen"] == expected_rows(config, lambda layer: (f"layers_{layer}",))
        assert paths["nnx"] == expected_rows(config, lambda layer: ("layers", layer))
    model = nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(0)))
    held = [path for path in state_paths(nnx.state(model)) if path[0] == "mtp_block"]
    assert {path[1] for path in held} == {"mtp_layer_1", "mtp_layer_2"}
    assert not any("embedder" in "/".join(path) or "logits_dense" in path for path in held)


def test_the_whole_train_step_is_proved():
    train = TrainSettings(gradient_accumulation_steps=3, num_vocab_tiling=4)
    found = proved("linen", "nnx", replace(TIED, mtp_eval_target_module=2), train=train)
    assert list(found) == EVERY_PART
    assert {part: proof.proved for part, proof in found.items()} == dict.fromkeys(EVERY_PART, True)
    told = {"mtp_loss", "mtp_acceptance_rate_percent"}
    assert {f"loss/learning/{name}" for name in told} <= set(found["step"].equal)


def model_of(config):
    graphdef, params, rest = nnx.split(nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(0))), nnx.Param, ...)
    params = filled(params, scatter(draw(config, 3), addresses(config, "layers/{i}")), ())
    return nnx.merge(graphdef, params, rest)


def test_segments_of_one_row_are_what_they_are_in_rows_of_their_own():
    config = replace(TIED, mtp_eval_target_module=2)
    packed = batch(batches(rows=2, length=12, steps=1, seed=5), 0)
    apart = [[] for _ in Batch._fields]
    for row, number in np.ndindex(2, 4):
        inside = np.flatnonzero(packed.segment_ids[row] == number)
        if number and inside.size:
            for field, values in zip(apart, packed, strict=True):
                field.append(np.pad(values[row, inside], (0, 12 - inside.size)))
    alone = Batch(*map(np.stack, apart))
    assert len(alone.tokens) > 3
    run, model = nnx.jit(lambda model, batch: passed(model, batch)[1]), model_of(config)
    left, right = run(model, packed), run(model, alone)
    assert float(left["mtp_weights"]) == float(right["mtp_weights"]) > 5
    assert float(left["mtp_judged"]) == float(right["mtp_judged"]) > 1
    # The same sums, over rows grouped otherwise.
    assert float(left["mtp_loss_sum"]) == pytest.approx(float(right["mtp_loss_sum"]), rel=2e-6)


def test_unequal_microbatches_count_by_their_places():
    made = batches(rows=2, length=12, steps=1, seed=3)
    made["step0/target_segments"][1, 3:] = 0
    rows, found = batch(made, 0), {}
    for count in (1, 2):
        settings = TrainSettings(gradient_accumulation_steps=count)
        trainer = side("linen").Trainer(ONE, settings, draw(ONE, 3))
        found[count] = *trainer.gradients(rows), settings
    (whole, terms, settings), (parts, sums, parted) = found[1], found[2]
    reported = [float(metrics(*each)["learning/mtp_loss"]) for each in ((terms, {}, settings), (sums, {}, parted))]
    assert reported[1] == pytest.approx(reported[0], rel=1e-6)
    for name, gradient in whole.items():
        np.testing.assert_allclose(parts[name], gradient, atol=2e-6 * np.abs(gradient).max(), err_msg=name)


def test_both_sides_place_every_leaf_alike():
    config, asked = TIED.overriding({"vocab_size": 260}), abstract_mesh({"fsdp": 2, "tensor": 2}, DEFAULT)
    linen, nnx_ = (side(name).Trainer.placements(config, TrainSettings(), asked, DEFAULT) for name in ("linen", "nnx"))
    assert linen == nnx_
    kernel = linen["0/mu/mtp_block/mtp_layer_2/mtp_2_projection/kernel"]
    assert (kernel.logical, kernel.shape, kernel.shard) == (("embed", "-"), (40, 20), (20, 20))


def test_experts_of_further_layers_have_loads_and_biases_of_their_own():
    config = family("deepseek", **SMALL, first_num_dense_layers=1)
    assert blank(config)["moe_expert_loads"].shape == (3, 8)
    values, table = draw(config, 3), addresses(config, "layers_{i}")
    loads = np.array([[1] * 8, [0, 8] * 4, [8, 0] * 4], np.float32)
    after = gather(flat(moved_biases(nested(scatter(values, table)), jnp.asarray(loads), config)), table)
    for k in (1, 2):
        name = f"mtp_block/mtp_layer_{k}/mtp_{k}_transformer_layer/DeepSeekMoeBlock_0/MoeBlock_0/gate/bias"
        step = 0.01 * np.array([1, -1] * 4) * (-1) ** (k - 1)
        np.testing.assert_allclose(after[name] - values[name], step, atol=1e-7)


def test_heads_of_further_layers_are_clipped_by_their_own_logits():
    config = family("deepseek_mla_lora", mtp_num_layers=1, num_decoder_layers=2, use_qk_clip=True, qk_clip_threshold=2)
    assert blank(config)[PEAKS].shape == (3, 4)
    values, table = draw(config, 3), addresses(config, "layers_{i}")
    largest = jnp.ones((3, 4)).at[2, 1].set(8.0)
    after = gather(flat(clipped_heads(nested(scatter(values, table)), largest, config)), table)
    changed = {name for name, value in values.items() if not np.array_equal(after[name], value)}
    above = "mtp_block/mtp_layer_1/mtp_1_transformer_layer/self_attention"
    assert changed == {f"{above}/wq_b/kernel", f"{above}/wkv_b/kernel"}
    moved = np.any(after[f"{above}/wq_b/kernel"] != values[f"{above}/wq_b/kernel"], axis=(0, 2))
    assert moved.tolist() == [False, True, False, False]


@pytest.mark.parametrize("name", ["linen", "nnx"])
def test_serving_and_logits_know_nothing_of_the_block(name):
    with_block, without = ONE, replace(ONE, mtp_num_layers=0)
    rows = batch(batches(rows=2, length=12, steps=1, seed=3), 0)
    found = [
        side(name).Trainer(config, TrainSettings(), draw(config, 3)).logits(rows) for config in (with_block, without)
    ]
    np.testing.assert_array_equal(*found)
    parts = [side(name).Engine.staged(config, 2) for config in (with_block, without)]
    for verb in parts[0]:
        left, right = (set(part[verb].arguments) for part in parts)
        assert {leaf for leaf in left - right if not leaf.startswith("mtp_block/")} == right - left == set()
    table = {row.name for row in declare(with_block)} - {row.name for row in declare(without)}
    assert table == set(parts[0]["generate"].arguments) - set(parts[1]["generate"].arguments)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mtp_num_layers": -1}, "mtp_num_layers=-1 must not be negative"),
        ({"mtp_eval_target_module": 3}, "mtp_eval_target_module=3 must lie between 0, .*mtp_num_layers=2"),
        ({"mtp_num_layers": 0, "mtp_eval_target_module": 1}, "mtp_eval_target_module=1 must lie"),
        ({"mtp_loss_scaling_factor": 0.0}, "mtp_loss_scaling_factor=0.0 teaches mtp_num_layers=2 nothing"),
        ({"mtp_num_layers": 12}, "mtp_num_layers=12 looks beyond rows of max_target_length=12"),
    ],
)
def test_what_cannot_be_is_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        TIED.overriding(settings)


def test_what_cannot_train_it_says_so():
    weights = draw(TIED, 3)
    with pytest.raises(ConfigError, match="decoder_block='gpt3'"):
        family("gpt3", mtp_num_layers=1)
    for name in ("linen_nnx", "nnx_linen", "linen_nnx_linen"):
        with pytest.raises(ConfigError, match=r"mtp_num_layers=2 needs a model with .* has none"):
            side(name).Trainer(TIED, TrainSettings(), weights)
    with pytest.raises(ConfigError, match="mtp_num_layers=2: pairs teach no further tokens"):
        check_pairs(
            PreferenceBatch(*[np.zeros((2, 3), np.int32)] * len(PreferenceBatch._fields)), TIED, TrainSettings()
        )
