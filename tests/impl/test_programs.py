"""Programs of both sides on a model that no scenario has, gradients against differences, taps, and the bridges."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from impl.config import ConfigError
from impl.linen.transformer import Transformer
from impl.names import addresses, scatter
from impl.params import declare
from impl.programs import FRAMEWORKS, batch, prepare, programs, table
from impl.sides import FLAGS, SIDES, resolve, side
from impl.tiny import family
from impl.training.settings import TrainSettings
from impl.trees import nested

TRAIN = TrainSettings(z_loss_multiplier=2e-2, gradient_clipping_threshold=0.7)
YARN = family(
    "mistral",
    scan_layers=True,
    param_scan_axis=0,
    use_qk_norm=True,
    rope_interleave=True,
    rope_truncate=False,
    rope_attention_scaling=True,
)
SETTINGS = {"config": YARN, "train": TRAIN, "steps": 2, "offset": 3000}
BOTH = ("linen", "nnx")


@pytest.fixture(scope="module")
def prepared():
    return prepare(SETTINGS, 8)


@pytest.fixture(scope="module")
def trained(prepared):
    return {name: programs(name)["train"](SETTINGS, *prepared) for name in BOTH}


@pytest.fixture(scope="module")
def tapped(prepared):
    return {name: programs(name)["taps"](SETTINGS, *prepared)["intermediates"] for name in BOTH}


def same(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_both_sides_train_alike_to_the_bit_and_every_weight_moves(trained):
    for channel in ("structure", "loss", "gradients", "updates"):
        same(trained["nnx"][channel], trained["linen"][channel])
    assert list(trained["nnx"]["gradients"]) == list(trained["linen"]["gradients"]) == [r.name for r in declare(YARN)]
    for name in BOTH:
        assert [claim for claim, held in trained[name]["claims"].items() if not held] == []
        assert len(trained[name]["claims"]) > len(declare(YARN))


def test_structure_says_dtype_shape_and_axes_of_every_parameter_taken_apart(trained):
    expected = {
        row.name: f"float32[{','.join(map(str, row.shape))}] ({', '.join(map(str, row.axes))})" for row in declare(YARN)
    }
    assert trained["linen"]["structure"] == trained["nnx"]["structure"] == expected


@pytest.fixture(scope="module")
def loss(prepared):
    """weights -> the loss of the first batch: logits from the model in float32, everything after in float64."""
    made, names = batch(prepared[1], 0), addresses(YARN, "layers_{i}")
    with jax.default_matmul_precision("highest"):
        apply = jax.jit(Transformer(YARN).apply)

    def value(weights):
        with jax.default_matmul_precision("highest"):
            params = {"params": nested(scatter(weights, names))}
            logits = np.asarray(apply(params, made.tokens, made.positions, made.segment_ids), np.float64)
        top = logits.max(axis=-1, keepdims=True)
        log_z = top[..., 0] + np.log(np.sum(np.exp(logits - top), axis=-1))
        chosen = np.take_along_axis(logits, made.targets[..., None], axis=-1)[..., 0]
        counts = made.target_segments != 0
        return np.sum((log_z - chosen + TRAIN.z_loss_multiplier * log_z**2)[counts]) / counts.sum()

    return value


def test_the_reported_loss_is_the_float64_one(trained, loss, prepared):
    terms = trained["linen"]["loss"]
    assert float(terms["gradient/xent_sum"] / terms["gradient/weights"]) == pytest.approx(loss(prepared[0]), rel=1e-6)
    assert float(terms["step0/learning/loss"]) == pytest.approx(loss(prepared[0]), rel=1e-6)


PROBED = (
    "token_embedder/embedding",
    "decoder/layers/0/self_attention/query/kernel",
    "decoder/layers/1/self_attention/key_norm/scale",
    "decoder/layers/1/mlp/wi_0/kernel",
    "decoder/layers/2/self_attention/value/kernel",
    "decoder/layers/2/post_self_attention_layer_norm/scale",
    "decoder/logits_dense/kernel",
)


@pytest.mark.parametrize("name", PROBED)
def test_gradients_are_the_slopes_of_the_loss(trained, loss, prepared, name):
    weights, slope = prepared[0], trained["nnx"]["gradients"][name]
    spot = np.unravel_index(np.argmax(np.abs(slope)), slope.shape)

    def at(change):
        moved = np.array(weights[name])
        moved[spot] += np.float32(change)
        return loss({**weights, name: moved}), float(moved[spot])

    (above, high), (below, low) = at(4e-3), at(-4e-3)
    # Logits are float32: their roundings of some 1e-6, averaged over 50 tokens, move the loss by about 3e-7, over a
    # step of 8e-3 that is 4e-5; the third derivative adds h**2 / 6 times its size, some 1e-5 of the slope's scale.
    assert (above - below) / (high - low) == pytest.approx(float(slope[spot]), rel=2e-3, abs=1e-4)
    assert abs(slope[spot]) > 2e-3


def test_taps_have_the_same_paths_order_and_values_on_both_sides(tapped):
    same(tapped["nnx"], tapped["linen"])
    assert list(tapped["nnx"]) == list(tapped["linen"])


@pytest.mark.parametrize("side", BOTH)
def test_taps_come_in_the_order_of_the_forward_pass(tapped, side):
    order = {path: at for at, path in enumerate(tapped[side])}
    modules = list(dict.fromkeys(row.name.rpartition("/")[0] for row in declare(YARN)))
    assert [order[path] for path in modules] == sorted(order[path] for path in modules)
    for layer in range(YARN.num_decoder_layers):
        parts = [at for path, at in order.items() if path.startswith(f"decoder/layers/{layer}/")]
        assert max(parts) < order[f"decoder/layers/{layer}"]
        assert layer == 0 or min(parts) > order[f"decoder/layers/{layer - 1}"]
    assert next(iter(order)) == "token_embedder"
    assert list(order)[-2:] == ["decoder", "model"]


def test_the_last_tap_is_what_the_model_returns_and_layers_differ(tapped, prepared):
    logits = side("linen").Trainer(YARN, TRAIN, prepared[0]).logits(batch(prepared[1], 0))
    np.testing.assert_allclose(tapped["linen"]["model"], logits, rtol=0, atol=2e-5)
    outputs = [tapped["linen"][f"decoder/layers/{layer}"].tobytes() for layer in range(YARN.num_decoder_layers)]
    assert len(set(outputs)) == YARN.num_decoder_layers


@pytest.mark.parametrize(("flags", "name"), [(flags, name) for flags, name in FLAGS.items() if name not in BOTH])
def test_a_bridged_side_is_resolved_built_and_has_the_parameters_of_linen(trained, prepared, flags, name):
    config = YARN.overriding(dict(zip(("pure_nnx", "enable_nnx", "pure_nnx_decoder"), flags, strict=True)))
    assert resolve(config) == name
    settings = {**SETTINGS, "config": config}
    assert programs(name)["structure"](settings, *prepared)["structure"] == trained["linen"]["structure"]
    trainer = side(name).Trainer(config, TRAIN, prepared[0])
    same(trainer.weights(), prepared[0])
    assert trainer.steps_done == 0


def test_native_sides_offer_every_program_and_each_side_names_its_frameworks():
    offered = {name: set(programs(name)) for name in SIDES}
    assert {"train", "taps", "resume", "conversion", "refusals", "decode"} <= offered["linen"] == offered["nnx"]
    for bridged in set(SIDES) - {"linen", "nnx"}:
        assert offered[bridged] == {"structure", "forward", "gradients", "train", "fp8"}
    assert {name: set(found) for name, found in FRAMEWORKS.items()} == {
        "linen": {"linen"},
        "nnx": {"nnx"},
        **{name: {"linen", "nnx"} for name in ("linen_nnx_linen", "linen_nnx", "nnx_linen", "nnx_linen_dots")},
    }


def test_a_program_of_an_unknown_side_is_refused():
    with pytest.raises(ConfigError, match="no side is called 'flax'"):
        programs("flax")


def test_rows_without_weight_are_those_that_were_asked_for():
    plain = prepare({"rows": 6, "steps": 2}, 8)[1]
    made = prepare({"rows": 6, "steps": 2, "unweighted": (1, 3)}, 8)[1]
    for name, value in made.items():
        changed = [row for row in range(6) if not np.array_equal(value[row], plain[name][row])]
        assert changed == ([1, 4] if name.endswith("/target_segments") else []), name
        assert not value[changed].any()


def test_the_table_says_how_each_parameter_is_called_after_the_migration():
    rows = table({"config": family("llama2")})
    assert rows["decoder/layers/2/mlp/wo/kernel"] == {
        "linen": "params.decoder.layers_2.mlp.wo.kernel",
        "nnx": "decoder.layers.2.mlp.wo.kernel",
    }
    assert table(SETTINGS)["decoder/layers/2/mlp/wo/kernel"]["nnx"] == "decoder.layers.mlp.wo.kernel[2 @axis 0]"
