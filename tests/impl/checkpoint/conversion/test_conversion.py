"""convert on synthetic trees: layouts, dtypes, optimizers, refusals."""

from __future__ import annotations

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from impl.checkpoint import CheckpointError, KeyArray, compare, conversion_text, convert, inspect, load_tree, save_tree
from impl.checkpoint.leaves.leaf import same_bytes
from impl.checkpoint.leaves.tree import flatten


def same(one, two):
    left, right = flatten(one).leaves, flatten(two).leaves
    assert set(left) == set(right)
    assert [path for path in left if not same_bytes(left[path], right[path])] == []


def to(source, target, **options):
    return convert(source, target, **{"to": "auto", "layout": "keep", "scan_axis": 1} | options)


@pytest.mark.parametrize("axis", [0, 1])
def test_eleven_layers_stack_in_numeric_order_at_either_axis(tmp_path, linen_tree, axis):
    apart, stacked = linen_tree(11, -1), linen_tree(11, axis)
    save_tree(tmp_path / "apart", apart)
    to(tmp_path / "apart", tmp_path / "stacked", to="linen", layout="scanned", scan_axis=axis)
    same(load_tree(tmp_path / "stacked"), load_tree_of(tmp_path, stacked))
    to(tmp_path / "stacked", tmp_path / "back", to="linen", layout="unscanned", scan_axis=1 - axis)  # found, not told
    same(load_tree(tmp_path / "back"), load_tree(tmp_path / "apart"))


def load_tree_of(tmp_path, tree):
    save_tree(tmp_path / "expected", tree)
    return load_tree(tmp_path / "expected")


def test_linen_scanned_to_nnx_unscanned_and_back(tmp_path, linen_tree):
    save_tree(tmp_path / "linen", linen_tree(3, 1))
    report = to(tmp_path / "linen", tmp_path / "nnx", to="nnx", layout="unscanned")
    tree = load_tree(tmp_path / "nnx")
    assert sorted(tree["model"]["decoder"]["layers"]) == ["0", "1", "2"]
    assert sorted(tree["optimizer"]["opt_state"]["0"]["mu"]["decoder"]["layers"]) == ["0", "1", "2"]
    assert tree["optimizer"]["step"].dtype == np.uint32
    assert tree["model"]["decoder"]["layers"]["2"]["mlp"]["wo"]["kernel"].dtype.name == "bfloat16"
    assert report.groups == {"decoder/layers": "layers/<i>, 3 layers"}
    assert "D1" in conversion_text(report)
    to(tmp_path / "nnx", tmp_path / "back", layout="scanned")
    same(load_tree(tmp_path / "back"), load_tree(tmp_path / "linen"))


def test_wrapped_values_and_the_bare_parameter_tree(tmp_path, linen_tree, model_leaves, nested):
    save_tree(tmp_path / "linen", linen_tree(3, -1))
    to(tmp_path / "linen", tmp_path / "wrapped", to="D4")
    tree = load_tree(tmp_path / "wrapped")
    assert list(tree["model"]["decoder"]["decoder_norm"]["scale"]) == ["value"]
    assert inspect(tmp_path / "wrapped").dialect == "D4"
    to(tmp_path / "wrapped", tmp_path / "back")
    same(load_tree(tmp_path / "back"), load_tree(tmp_path / "linen"))
    save_tree(tmp_path / "params", {"params": {"params": nested(model_leaves(3, 1))}})
    to(tmp_path / "params", tmp_path / "bare", to="D4")
    assert sorted(load_tree(tmp_path / "bare")) == ["decoder", "token_embedder"]
    to(tmp_path / "bare", tmp_path / "params_back")
    same(load_tree(tmp_path / "params_back"), load_tree(tmp_path / "params"))


def test_random_streams_of_both_kinds_are_kept_and_follow_the_layers(tmp_path, linen_tree):
    keys = jax.random.split(jax.random.key(17, impl="rbg"), 3)
    streams = {"dropout": {"key": keys, "count": np.array([4, 5, 6], np.uint32)}}
    raw = {"params": {"key": np.array([[3, 9], [27, 81], [243, 729]], np.uint32)}}
    layers = {"dropout": {"rngs": streams}, "mlp": {"rngs": raw}}
    tree = linen_tree(3, 1) | {"nnx_aux": {"model": {"decoder": {"layers": layers}}}}
    save_tree(tmp_path / "d2", tree)
    to(tmp_path / "d2", tmp_path / "d3", layout="unscanned")
    layer = load_tree(tmp_path / "d3")["model"]["decoder"]["layers"]["1"]
    key = layer["dropout"]["rngs"]["dropout"]["key"]
    assert isinstance(key, KeyArray)
    assert (key.impl, key.words.tolist()) == ("rbg", np.asarray(jax.random.key_data(keys))[1].tolist())
    assert layer["mlp"]["rngs"]["params"]["key"].tolist() == [27, 81]
    to(tmp_path / "d3", tmp_path / "back", layout="scanned")
    same(load_tree(tmp_path / "back"), load_tree(tmp_path / "d2"))
    lost = to(tmp_path / "d3", tmp_path / "d1", to="D1")
    assert len(lost.dropped) == 9
    assert all("D2" in row.reason for row in lost.dropped)


def test_unknown_nested_optimizers_are_carried_whole(tmp_path, model_leaves, nested, draw):
    weights = model_leaves(3, 1)
    part = {name: leaf for name, leaf in weights.items() if "mlp" in name}
    inner = [{"count": np.int32(2), "mu": {"params": nested(part)}, "ns_coeffs": draw("ns", (3,))}, None, {"count": 4}]
    tree = {
        "params": {"params": nested(weights)},
        "opt_state": {"inner_state": inner, "losses": draw("losses", (7,)), "is_skipped": np.array(False)},
        "step": np.int32(8),
    }
    save_tree(tmp_path / "linen", tree)
    assert "inner state" in inspect(tmp_path / "linen").optimizer
    to(tmp_path / "linen", tmp_path / "nnx", layout="unscanned")
    inside = load_tree(tmp_path / "nnx")["optimizer"]["opt_state"]["inner_state"]
    assert sorted(inside) == ["0", "2"]
    assert sorted(inside["0"]["mu"]["decoder"]["layers"]["1"]["mlp"]) == ["wi_0", "wo"]
    to(tmp_path / "nnx", tmp_path / "back", layout="scanned")
    same(load_tree(tmp_path / "back"), load_tree(tmp_path / "linen"))


@pytest.mark.parametrize("state", ["flat", "sgd", "none"])
def test_flat_and_slotless_optimizers(tmp_path, linen_tree, state):
    tree = linen_tree(3, 1)
    adam = tree["opt_state"][0]
    tree["opt_state"] = {"flat": adam, "sgd": [None, {"count": np.int32(9)}], "none": {}}[state]
    save_tree(tmp_path / "linen", tree)
    assert inspect(tmp_path / "linen").optimizer.split()[0] == {"flat": "adam_pax"}.get(state, state)
    to(tmp_path / "linen", tmp_path / "nnx")
    to(tmp_path / "nnx", tmp_path / "back")
    same(load_tree(tmp_path / "back"), load_tree(tmp_path / "linen"))


def test_blocks_of_several_layers_are_numbered_layer_by_layer(tmp_path, nested, draw):
    names = [f"decoder/layers/layers_{block}/attn/{leaf}" for block in (0, 1) for leaf in ("kernel", "sinks")]
    leaves = {name: draw(name, (6, 5, 4) if "kernel" in name else (4, 5)) for name in names}
    leaves |= {
        f"decoder/layers_remainder/layers_0/attn/{leaf}": draw(leaf, shape)
        for leaf, shape in (("kernel", (6, 4)), ("sinks", (4,)))
    }
    save_tree(tmp_path / "linen", {"params": {"params": nested(leaves)}})
    report = to(tmp_path / "linen", tmp_path / "apart", to="linen", layout="unscanned")
    assert report.groups == {"decoder/layers": "layers_<i>, 11 layers"}
    decoder = load_tree(tmp_path / "apart")["params"]["params"]["decoder"]
    assert sorted(decoder) == sorted(f"layers_{index}" for index in range(11))
    expected = leaves["decoder/layers/layers_1/attn/kernel"][:, 3]
    assert decoder["layers_7"]["attn"]["kernel"].tobytes() == expected.tobytes()
    rest = leaves["decoder/layers_remainder/layers_0/attn/sinks"]
    assert decoder["layers_10"]["attn"]["sinks"].tobytes() == rest.tobytes()
    to(tmp_path / "apart", tmp_path / "nnx")
    to(tmp_path / "nnx", tmp_path / "back", layout="scanned", cycle=2)
    same(load_tree(tmp_path / "back"), load_tree(tmp_path / "linen"))
    found = compare(tmp_path / "linen", tmp_path / "nnx", values="values", rtol=0.0, atol=0.0, only="all")
    assert (found.outcome, found.compared) == ("EQUAL", 22)
    with pytest.raises(CheckpointError, match=r"11 layers make no cycle of 12"):
        to(tmp_path / "nnx", tmp_path / "never", layout="scanned", cycle=12)


def test_reference_params_survive_and_follow_the_layers(tmp_path, linen_tree, nested, model_leaves):
    tree = linen_tree(3, 1)
    tree["params"]["reference_params"] = nested(model_leaves(3, 1, "frozen"))
    save_tree(tmp_path / "dpo", tree)
    report = to(tmp_path / "dpo", tmp_path / "nnx", layout="unscanned")
    assert any("reference_params" in note for note in report.notes)
    to(tmp_path / "nnx", tmp_path / "back", layout="scanned")
    same(load_tree(tmp_path / "back"), load_tree(tmp_path / "dpo"))


def test_the_container_of_the_source_is_kept(tmp_path, linen_tree):
    root = tmp_path / "run"
    with ocp.CheckpointManager(root, item_names=("items",)) as manager:
        arguments = ocp.args.PyTreeSave(linen_tree(3, 1))
        manager.save(7, args=ocp.args.Composite(items=arguments), custom_metadata={"scan_layers": True, "lora": 4})
    to(root, tmp_path / "out", layout="unscanned")
    found = inspect(tmp_path / "out")
    assert found.items == str(tmp_path / "out" / "7" / "items")
    assert found.custom_metadata == {"scan_layers": False, "lora": 4}
    with ocp.CheckpointManager(tmp_path / "out", item_names=("items",)) as manager:
        restored = manager.restore(7, args=ocp.args.Composite(items=ocp.args.PyTreeRestore()))
    assert int(restored["items"]["optimizer"]["step"]) == 5


def missing_child(tree):
    del tree["opt_state"][0]["nu"]["params"]["decoder"]["layers_1"]["mlp"]["wo"]


def missing_layer(tree):
    for part in (tree["params"], tree["opt_state"][0]["mu"], tree["opt_state"][0]["nu"]):
        del part["params"]["decoder"]["layers_1"]


def other_shape(tree):
    for part in (tree["params"], tree["opt_state"][0]["mu"], tree["opt_state"][0]["nu"]):
        part["params"]["decoder"]["layers_2"]["mlp"]["wo"]["kernel"] = np.arange(7.0, dtype=np.float32)


def both_forms(tree):
    tree["params"]["params"]["decoder"]["layers"] = {"mlp": {"wo": {"kernel": np.arange(6.0).reshape(2, 3)}}}


def factored(tree):
    tree["opt_state"][0]["mu"]["params"]["decoder"]["layers_0"]["mlp"]["wo"]["kernel"] = np.arange(4.0)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (missing_child, "mlp/wo/kernel: absent in layer 1, present in layer 0"),
        (missing_layer, "layer 1 is absent, layer 2 is there"),
        (other_shape, "mlp/wo/kernel: .* in layer 2"),
        (both_forms, "stacked and suffixed at once"),
        (factored, r"slot 0/mu, decoder/layers_0/mlp/wo/kernel: shape \(4,\)"),
    ],
)
def test_a_tree_that_cannot_be_stacked_is_refused_by_name(tmp_path, linen_tree, spoil, words):
    tree = linen_tree(3, -1)
    spoil(tree)
    save_tree(tmp_path / "odd", tree)
    with pytest.raises(CheckpointError, match=words):
        to(tmp_path / "odd", tmp_path / "out", layout="scanned")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["odd"]


def test_a_stack_that_no_axis_fits_is_refused_by_name(tmp_path, linen_tree):
    tree = linen_tree(3, 1)
    tree["params"]["params"]["decoder"]["layers"]["mlp"]["wi_0"]["kernel"] = np.arange(48.0).reshape(6, 4, 2)
    save_tree(tmp_path / "odd", tree)
    with pytest.raises(CheckpointError, match=r"mlp/wi_0/kernel: 4 layers at axis 1, the other leaves .* have 3"):
        to(tmp_path / "odd", tmp_path / "out", layout="unscanned")


def test_an_ambiguous_stack_is_read_at_the_axis_given(tmp_path, draw, nested):
    square = {"decoder/layers/mlp/kernel": draw("square", (4, 4, 5))}
    save_tree(tmp_path / "square", {"params": {"params": nested(square)}})
    assert "undecided" in inspect(tmp_path / "square").layout["decoder/layers"]
    for axis in (0, 1):
        to(tmp_path / "square", tmp_path / f"out{axis}", to="linen", layout="unscanned", scan_axis=axis)
        found = load_tree(tmp_path / f"out{axis}")["params"]["params"]["decoder"]["layers_2"]["mlp"]["kernel"]
        assert found.tobytes() == np.take(square["decoder/layers/mlp/kernel"], 2, axis).tobytes()


def test_an_interrupted_conversion_leaves_nothing(tmp_path, linen_tree, monkeypatch):
    save_tree(tmp_path / "linen", linen_tree(3, 1))
    seen = []

    def interrupt(source, plan, items, transfer, moved):
        seen.append(items)
        with pytest.raises(ValueError, match="incomplete checkpoint"):
            ocp.PyTreeCheckpointer().restore(items)
        raise KeyboardInterrupt

    monkeypatch.setattr("impl.checkpoint.conversion.convert._verify", interrupt)
    with pytest.raises(KeyboardInterrupt):
        to(tmp_path / "linen", tmp_path / "out")
    assert len(seen) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["linen"]


def test_another_layout_compares_equal(tmp_path, linen_tree):
    save_tree(tmp_path / "a", linen_tree(11, 0))
    to(tmp_path / "a", tmp_path / "b", layout="unscanned")
    record = compare(tmp_path / "a", tmp_path / "b", values="values", rtol=0.0, atol=0.0, only="all")
    assert (record.outcome, record.compared) == ("EQUAL", 3 * (2 + 6 * 11) + 3)
