"""Parameters as declared are those that freshly initialised states hold on both sides; drawn weights hide nothing."""

from __future__ import annotations

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

from impl.linen.state import abstract_state as linen_state
from impl.linen.transformer import Transformer as LinenTransformer
from impl.nnx.state import abstract_state as nnx_state
from impl.nnx.transformer import Transformer as NnxTransformer
from impl.params import declare, draw, input_projections, layer_parameters
from impl.tiny import FAMILIES, family

CONFIGS = {
    **{name: family(name) for name in FAMILIES},
    "gpt3 apart, scan0": family("gpt3", fused_qkv=False, scan_layers=True, param_scan_axis=0),
    "qwen3, scan1": family("qwen3", scan_layers=True, weight_dtype="bfloat16"),
    "gemma2 without post norms, scan1": family(
        "gemma2", use_post_attn_norm=False, use_post_ffw_norm=False, use_qk_norm=True, scan_layers=True
    ),
    "three activations": family("llama2", mlp_activations=("relu", "linear", "sigmoid"), mlp_bias=True),
}


def linen_rows(config):
    """Path -> (shape, dtype, axes) of a state's parameters, found without the table of names."""
    boxed = linen_state(LinenTransformer(config), optax.sgd(0.1), config).params["params"]
    leaves, _ = jax.tree_util.tree_flatten_with_path(boxed, is_leaf=lambda node: isinstance(node, nn.Partitioned))
    return {tuple(key.key for key in path): (box.value.shape, box.value.dtype, box.names) for path, box in leaves}


def nnx_rows(config):
    state = nnx.state(nnx_state(NnxTransformer, optax.sgd(0.1), config).model, nnx.Param)
    return {
        tuple(map(str, path)): (leaf.shape, leaf.dtype, leaf.get_metadata()["out_sharding"])
        for path, leaf in nnx.to_flat_state(state)
    }


def expected_rows(config, spell):
    """What `declare` says, stacked by hand where the configuration scans; `spell` writes an unscanned layer's keys."""
    rows = {}
    for row in declare(config):
        keys, shape, axes = tuple(row.name.split("/")), row.shape, row.axes
        if keys[1] == "layers" and config.scan_layers:
            at = min(config.param_scan_axis, len(shape))
            shape = (*shape[:at], config.num_decoder_layers, *shape[at:])
            axes = (*axes[:at], "layers", *axes[at:])
            keys = (*keys[:2], *keys[3:])
        elif keys[1] == "layers":
            keys = (keys[0], *spell(keys[2]), *keys[3:])
        rows[keys] = (shape, np.dtype(config.weight_dtype), axes)
    return rows


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_declared_parameters_are_those_of_fresh_states_on_both_sides(config):
    assert linen_rows(config) == expected_rows(config, lambda layer: (f"layers_{layer}",))
    assert nnx_rows(config) == expected_rows(config, lambda layer: ("layers", layer))


def test_forward_order_of_a_block_and_of_the_model():
    names = [row.name for row in declare(family("gpt3", num_decoder_layers=12))]
    assert names[:2] == ["token_embedder/embedding", "decoder/position_embedder/embedding"]
    layers = [int(name.split("/")[2]) for name in names if name.startswith("decoder/layers/")]
    assert layers == sorted(layers)
    assert names[-2:] == ["decoder/decoder_norm/scale", "decoder/decoder_norm/bias"]
    assert [row.name for row in declare(family("llama2"))][-1] == "decoder/logits_dense/kernel"
    assert [row.name for row in layer_parameters(family("qwen3"))] == [
        "pre_self_attention_layer_norm/scale",
        *(f"self_attention/{part}/kernel" for part in ("query", "key", "value")),
        *(f"self_attention/{part}_norm/scale" for part in ("query", "key")),
        "self_attention/out/kernel",
        "post_self_attention_layer_norm/scale",
        *(f"mlp/{part}/kernel" for part in ("wi_0", "wi_1", "wo")),
    ]


def test_fan_in_is_the_product_of_what_a_kernel_sums_over():
    fans = {row.name: row.fan_in for row in layer_parameters(family("fused")) if row.kind == "kernel"}
    assert fans == {
        "self_attention/qkv_proj/kernel": 20,
        "self_attention/out/kernel": 4 * 6,
        "mlp/wi_0/kernel": 20,
        "mlp/wi_1/kernel": 20,
        "mlp/wo/kernel": 44,
    }


def test_one_activation_has_one_projection_without_number():
    assert input_projections(family("gpt3")) == ("wi",)
    assert input_projections(CONFIGS["three activations"]) == ("wi_0", "wi_1", "wi_2")


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_drawn_leaves_are_generic_and_of_the_declared_shape_and_dtype(config):
    weights = draw(config, 11)
    assert list(weights) == [row.name for row in declare(config)]
    for row in declare(config):
        value = weights[row.name]
        assert (value.shape, value.dtype) == (row.shape, np.dtype(config.weight_dtype)), row.name
        wide = value.astype(np.float64)
        assert np.isfinite(wide).all()
        # bfloat16 keeps eight bits: in its leaves values repeat, and a scale near 1 is 1 now and then.
        assert len(np.unique(wide)) > wide.size // 2 or wide.size > 100, row.name
        assert len(np.unique(wide)) > 3, row.name
        assert np.mean(wide == 0) < 0.02, row.name
        assert np.mean(wide == 1) < 0.2, row.name


def test_no_two_leaves_are_alike_and_scales_lie_around_what_the_norm_expects():
    for name, centre in (("gpt3", 0.0), ("llama2", 1.0)):
        weights = draw(family(name), 11)
        assert len({value.tobytes() for value in weights.values()}) == len(weights)
        scales = np.concatenate([value for key, value in weights.items() if key.endswith("scale")])
        assert abs(scales.mean() - centre) < 5 * 0.1 / np.sqrt(scales.size)
        assert 0.07 < scales.std() < 0.13
        kernel = weights["decoder/layers/1/mlp/wo/kernel"]
        assert kernel.std() == pytest.approx(44**-0.5, rel=0.1)


def test_a_layer_or_a_parameter_more_moves_no_other_weight():
    before = draw(family("llama2"), 11)
    for after in (
        draw(family("llama2", num_decoder_layers=4), 11),
        draw(family("llama2", use_qk_norm=True, mlp_bias=True), 11),
        draw(family("llama2", trainable_position_size=30), 11),
        draw(family("llama2", scan_layers=True, param_scan_axis=0), 11),
    ):
        for name, value in before.items():
            np.testing.assert_array_equal(after[name], value, err_msg=name)


def test_every_leaf_depends_on_the_seed_and_on_nothing_else():
    first, again, other = (draw(family("gemma2"), seed) for seed in (11, 11, 12))
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name])
        assert np.mean(value == other[name]) < 0.01, name


def test_bfloat16_weights_are_the_float32_ones_rounded():
    wide, narrow = draw(family("llama2"), 11), draw(family("llama2", weight_dtype="bfloat16"), 11)
    for name, value in wide.items():
        np.testing.assert_array_equal(narrow[name], value.astype(narrow[name].dtype))
        assert narrow[name].dtype.name == "bfloat16"
