"""A reference's checkpoint becomes neutral weights, whatever layout and projection it was stored in."""

from __future__ import annotations

import numpy as np
import pytest

from impl.names import addresses, scatter
from impl.params import draw
from impl.reference.folder import neutral
from impl.tiny import family


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("name", ["llama2", "gpt3", "fused"])
def test_leaves_of_any_layout_become_neutral(name, axis):
    config = family(name, num_decoder_layers=5, scan_layers=axis >= 0, param_scan_axis=max(axis, 0))
    values = draw(config, 4)
    found = neutral(scatter(values, addresses(config, "layers_{i}")), config, config.param_scan_axis)
    assert list(found) == list(values)
    assert all(np.array_equal(found[key], values[key]) for key in values)


def test_a_fused_projection_stored_in_three_parts_keeps_its_order():
    config = family("fused", num_kv_heads=4)
    values = draw(config, 4)
    name = "decoder/layers/1/self_attention/qkv_proj/kernel"
    leaves = scatter(values, addresses(config, "layers_{i}"))
    path = addresses(config, "layers_{i}")[name].path
    parts = np.split(values[name], 3, axis=1)
    assert np.array_equal(neutral({**leaves, path: np.stack(parts, axis=1)}, config, 1)[name], values[name])
