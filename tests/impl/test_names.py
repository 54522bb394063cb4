"""Addresses, gather and scatter: round trips over every layout, and what does not meet is named with its candidates."""

from __future__ import annotations

import numpy as np
import pytest

from impl.names import Address, BridgeError, addresses, gather, nearest, scatter
from impl.params import declare, draw
from impl.tiny import family

LAYOUTS = {
    "unscanned, one key": ({}, "layers_{i}"),
    "unscanned, two keys": ({}, "layers/{i}"),
    "scanned at 1": ({"scan_layers": True}, "layers_{i}"),
    "scanned at 0": ({"scan_layers": True, "param_scan_axis": 0}, "layers/{i}"),
    "eleven apart": ({"num_decoder_layers": 11}, "layers_{i}"),
    "eleven stacked": ({"num_decoder_layers": 11, "scan_layers": True}, "layers/{i}"),
}


@pytest.mark.parametrize("name", ["gpt3", "gemma2", "fused"])
@pytest.mark.parametrize(("settings", "unscanned"), LAYOUTS.values(), ids=LAYOUTS)
def test_scatter_then_gather_gives_every_value_back_in_order(name, settings, unscanned):
    config = family(name, **settings)
    values = draw(config, 5)
    table = addresses(config, unscanned)
    leaves = scatter(dict(reversed(values.items())), table)
    back = gather(dict(reversed(leaves.items())), table)
    assert list(back) == list(table) == [row.name for row in declare(config)]
    for key, value in values.items():
        np.testing.assert_array_equal(back[key], value, err_msg=key, strict=True)


def test_layers_lie_where_the_layout_says():
    values = draw(family("gpt3", num_decoder_layers=11), 5)
    spelled = {}
    for label, (settings, unscanned) in LAYOUTS.items():
        config = family("gpt3", **{"num_decoder_layers": 11, **settings})
        spelled[label] = scatter(values, addresses(config, unscanned))
    rest = ("self_attention", "out", "kernel")
    tenth = values["decoder/layers/10/self_attention/out/kernel"]
    np.testing.assert_array_equal(spelled["unscanned, one key"]["decoder", "layers_10", *rest], tenth)
    np.testing.assert_array_equal(spelled["unscanned, two keys"]["decoder", "layers", "10", *rest], tenth)
    stacked = spelled["scanned at 1"]["decoder", "layers", *rest]
    assert stacked.shape == (4, 11, 6, 20)
    np.testing.assert_array_equal(stacked[:, 10], tenth)
    stacked = spelled["scanned at 0"]["decoder", "layers", *rest]
    assert stacked.shape == (11, 4, 6, 20)
    np.testing.assert_array_equal(stacked[10], tenth)


def test_leaves_of_one_axis_are_stacked_at_their_last():
    config = family("gpt3", scan_layers=True, num_decoder_layers=5)
    values = draw(config, 5)
    leaves = scatter(values, addresses(config, "layers_{i}"))
    scale = leaves["decoder", "layers", "pre_self_attention_norm", "scale"]
    assert scale.shape == (20, 5)
    np.testing.assert_array_equal(scale[:, 3], values["decoder/layers/3/pre_self_attention_norm/scale"])
    assert leaves["decoder", "decoder_norm", "scale"].shape == (20,)
    first = addresses(family("gpt3", scan_layers=True, param_scan_axis=0), "layers_{i}")
    assert first["decoder/layers/2/pre_self_attention_norm/scale"].axis == 0


def test_an_address_reads_as_a_path_and_a_place_in_the_stack():
    assert str(Address(("decoder", "layers_2", "wo"))) == "decoder.layers_2.wo"
    assert str(Address(("decoder", "layers", "wo"), 1, 2)) == "decoder.layers.wo[2 @axis 1]"


def parts(**settings):
    config = family("llama2", **settings)
    table = addresses(config, "layers_{i}")
    values = draw(config, 5)
    return table, values, scatter(values, table)


def test_leaves_and_names_that_do_not_meet_are_all_named_with_their_nearest():
    table, _, leaves = parts()
    wrong = ("decoder", "layers_1", "mlp", "w0", "kernel")
    moved = {
        wrong if path == ("decoder", "layers_1", "mlp", "wo", "kernel") else path: leaf for path, leaf in leaves.items()
    }
    with pytest.raises(BridgeError) as refused:
        gather({**moved, ("bogus",): np.float32([3.0])}, table)
    lines = str(refused.value).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("leaf decoder.layers_1.mlp.w0.kernel belongs to no parameter; nearest: ")
    assert "decoder.layers_1.mlp.wo.kernel" in lines[0]
    assert lines[1] == "leaf bogus belongs to no parameter; nearest: nothing similar"
    assert lines[2].startswith(
        "decoder/layers/1/mlp/wo/kernel has no leaf at decoder.layers_1.mlp.wo.kernel; nearest: "
    )
    assert "decoder.layers_1.mlp.w0.kernel" in lines[2]


def test_a_stacked_leaf_that_is_missing_is_missed_by_every_layer():
    table, _, leaves = parts(scan_layers=True)
    del leaves["decoder", "layers", "mlp", "wo", "kernel"]
    with pytest.raises(BridgeError) as refused:
        gather(leaves, table)
    for layer in range(3):
        assert (
            f"decoder/layers/{layer}/mlp/wo/kernel has no leaf at decoder.layers.mlp.wo.kernel[{layer} @axis 1]"
            in str(refused.value)
        )


def test_a_stack_of_another_length_or_axis_is_refused():
    table, _, leaves = parts(scan_layers=True)
    path = ("decoder", "layers", "mlp", "wo", "kernel")
    with pytest.raises(
        BridgeError, match=r"decoder\.layers\.mlp\.wo\.kernel has shape \(44, 4, 20\): expected 3 layers at axis 1"
    ):
        gather({**leaves, path: np.concatenate([leaves[path], leaves[path][:, :1]], axis=1)}, table)
    with pytest.raises(BridgeError, match=r"has shape \(3, 44, 20\): expected 3 layers at axis 1"):
        gather({**leaves, path: np.moveaxis(leaves[path], 1, 0)}, table)
    scale = ("decoder", "layers", "pre_self_attention_layer_norm", "scale")
    with pytest.raises(BridgeError, match=r"scale has shape \(20,\): expected 3 layers at axis 1"):
        gather({**leaves, scale: leaves[scale][:, 0]}, table)


def test_values_and_names_that_do_not_meet_are_all_named_with_their_nearest():
    table, values, _ = parts()
    renamed = {
        "decoder/decoder_norms/scale" if key == "decoder/decoder_norm/scale" else key: values[key] for key in values
    }
    with pytest.raises(BridgeError) as refused:
        scatter(renamed, table)
    lines = str(refused.value).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("decoder/decoder_norms/scale has no address; nearest: decoder/decoder_norm/scale")
    assert lines[1].startswith("decoder/decoder_norm/scale has no value; nearest: decoder/decoder_norms/scale")


def test_nearest_gives_the_two_best_of_many():
    known = [f"layers_{index}/kernel" for index in range(7)] + ["embedding"]
    assert nearest("No leaf", "layers_3/kernels", known).startswith("No leaf; nearest: layers_3/kernel, layers_")
    assert nearest("No leaf", ("layers_3", "kernel"), [("layers_4", "kernel")]) == "No leaf; nearest: layers_4.kernel"
