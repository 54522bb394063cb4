"""Groups of layers: one table, followed by names, parameters, caches, captured outputs and both sides' states."""

from __future__ import annotations

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

from impl.linen.state import abstract_state as linen_state
from impl.linen.transformer import Transformer as LinenTransformer
from impl.names import addresses, gather, scatter
from impl.nnx.state import abstract_state as nnx_state
from impl.nnx.state import state_paths
from impl.nnx.transformer import Transformer as NnxTransformer
from impl.params import declare, draw
from impl.serving.layout import cache_addresses
from impl.stacks import groups, places
from impl.taps import neutral_taps
from impl.tiny import MIXED, family
from impl.trees import flat

SCANNED = {name: family(name, scan_layers=True) for name in MIXED}
AXIS_0 = {f"{name} at 0": family(name, scan_layers=True, param_scan_axis=0) for name in MIXED}
CONFIGS = {**{name: family(name) for name in MIXED}, **SCANNED, **AXIS_0}


def test_gemma3_is_scanned_by_whole_cycles_and_what_is_left_over():
    block, rest = groups(SCANNED["gemma3"])
    assert (block.name, block.form, block.kinds, block.count) == ("layers", "scanned", ("local", "local", "global"), 2)
    assert (rest.name, rest.form, rest.kinds, rest.first) == ("layers_remainder", "block", ("local",), 6)
    (listed,) = groups(family("gemma3"))
    assert (listed.form, listed.kinds[2::3], list(listed.layers)) == ("listed", ("global", "global"), list(range(7)))
    assert [place.kind for place in places(SCANNED["gemma3"])] == list(listed.kinds)
    whole = family("gemma3", layer_cycle=(), num_decoder_layers=34)
    assert [place.layer for place in places(whole) if place.kind == "global"] == [5, 11, 17, 23, 29]


def test_a_layer_of_a_cycle_lies_in_its_block_and_its_leaf_in_the_blocks_stack():
    table = addresses(SCANNED["gemma3"], "layers_{i}")
    assert str(table["decoder/layers/4/mlp/wo/kernel"]) == "decoder.layers.layers_1.mlp.wo.kernel[1 @axis 1]"
    assert str(table["decoder/layers/6/mlp/wo/kernel"]) == "decoder.layers_remainder.layers_0.mlp.wo.kernel"
    cache = cache_addresses(AXIS_0["gemma3 at 0"], "layers/{i}")
    assert str(cache["decoder/layers/5/self_attention/KVCache_0/cached_ar_key"]) == (
        "decoder.layers.layers_2.self_attention.KVCache_0.cached_ar_key[1 @axis 0]"
    )


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_fresh_states_hold_exactly_what_the_table_says(config):
    boxed = linen_state(LinenTransformer(config), optax.sgd(0.1), config).params["params"]
    state = nnx.state(nnx_state(NnxTransformer, optax.sgd(0.1), config).model, nnx.Param)
    values = {row.name: np.broadcast_to(np.float32(0), row.shape) for row in declare(config)}
    shapes = [jax.tree.map(lambda leaf: leaf.shape, flat(nn.unbox(boxed))), {}]
    shapes[1] = {path: leaf.shape for path, leaf in state_paths(state).items()}
    for found, layout in zip(shapes, ("layers_{i}", "layers/{i}"), strict=True):
        assert found == {path: leaf.shape for path, leaf in scatter(values, addresses(config, layout)).items()}
    names = {box.names for box in jax.tree.leaves(boxed, is_leaf=lambda leaf: isinstance(leaf, nn.Partitioned))}
    for group in groups(config):
        assert any(group.name in axes for axes in names) == (group.form == "scanned")


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_scatter_then_gather_gives_every_value_back(config):
    values = draw(config, 5)
    table = addresses(config, "layers_{i}")
    back = gather(scatter(values, table), table)
    assert list(back) == [row.name for row in declare(config)]
    assert all(np.array_equal(back[name], value) for name, value in values.items())


def test_captured_outputs_of_a_cycle_are_listed_layer_by_layer():
    config, stack = SCANNED["gemma3"], ("decoder", "layers")
    found = {(*stack, f"layers_{inner}", "mlp"): np.array([inner, inner + 3]) for inner in range(3)}
    found |= {stack: np.array([2, 5]), (*("decoder", "layers_remainder"), "layers_0"): np.array(6), (): np.array(9)}
    taps = neutral_taps({(*path, "__call__", "0"): value for path, value in found.items()}, config)
    expected = {f"decoder/layers/{layer}/mlp": layer for layer in range(6)}
    assert taps == {**expected, "decoder/layers/6": 6, "model": 9}
