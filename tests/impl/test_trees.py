"""Nested trees and flat ones, optimizer slots by name, and putting a saved tree over another."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from impl.names import BridgeError, addresses, scatter
from impl.params import draw
from impl.tiny import family
from impl.trees import describe, flat, flat_axes, nested, overlay, plain, slots

CONFIG = family("llama2", scan_layers=True)
TABLE = addresses(CONFIG, "layers_{i}")


class Moments(NamedTuple):
    count: np.ndarray
    mu: dict


class Nothing(NamedTuple):
    pass


def tree():
    return {"b": {"x": np.float32([2.5, 3.5]), "y": np.int32([[7]])}, "a": np.float32([[1.5, 4.0, 9.0]])}


def test_nested_and_flat_undo_each_other():
    leaves = flat(tree())
    assert set(leaves) == {("b", "x"), ("b", "y"), ("a",)}
    back = nested(leaves)
    assert flat(back) == leaves
    assert back["b"]["y"] is leaves["b", "y"]


def test_flat_spells_indices_and_attributes_as_keys():
    mixed = {"opt": (Moments(np.int32(4), {"w": np.float32(2.5)}), [np.float32(6.5)])}
    assert flat(mixed) == {("opt", "0", "count"): 4, ("opt", "0", "mu", "w"): 2.5, ("opt", "1", "0"): 6.5}


def test_plain_keeps_leaves_and_drops_the_kinds_of_containers():
    mixed = (Moments(np.int32(4), {"w": np.float32(2.5)}), Nothing(), (np.float32(6.5),))
    assert plain(mixed) == [{"count": 4, "mu": {"w": 2.5}}, None, [6.5]]


def test_plain_of_an_optax_state_can_be_laid_back_over_it():
    params = {"w": jnp.asarray([[0.3, -1.7, 2.9]])}
    state = optax.adamw(3e-3).init(params)
    moved = jax.tree.map(lambda leaf: leaf + 3, state)
    back = overlay(state, plain(moved))
    assert jax.tree.structure(back) == jax.tree.structure(state)
    assert jax.tree.map(lambda leaf: leaf.tolist(), back) == jax.tree.map(lambda leaf: leaf.tolist(), moved)


def test_slots_that_mirror_the_parameters_are_named_by_them_and_others_keep_their_path():
    values = draw(CONFIG, 5)
    params = {"params": nested(scatter(values, TABLE))}
    state = (Moments(np.int32(4), params), Nothing(), Moments(np.int32(6), jax.tree.map(lambda leaf: leaf * 2, params)))
    found = slots(flat(state), TABLE)
    counts = {"0/count": 4, "2/count": 6}
    assert set(found) == {*counts, *(f"{at}/mu/{name}" for at in (0, 2) for name in values)}
    assert {name: found[name] for name in counts} == counts
    for name, value in values.items():
        np.testing.assert_array_equal(found[f"0/mu/{name}"], value, strict=True)
        np.testing.assert_array_equal(found[f"2/mu/{name}"], value * 2, strict=True)


def test_slots_directly_over_the_parameters_lose_no_level():
    values = draw(CONFIG, 5)
    found = slots(flat({"mu": nested(scatter(values, TABLE))}), TABLE)
    assert set(found) == {f"mu/{name}" for name in values}


def test_a_slot_that_mirrors_only_a_part_is_refused_by_its_name():
    mirror = {path: leaf for path, leaf in scatter(draw(CONFIG, 5), TABLE).items() if path[-2] != "wo"}
    with pytest.raises(BridgeError, match=r"^optimizer slot 0/nu: decoder/layers/0/mlp/wo/kernel has no leaf at"):
        slots({("0", "nu", "params", *path): leaf for path, leaf in mirror.items()}, TABLE)


def test_overlay_takes_leaves_from_one_and_containers_from_the_other():
    target = (Moments(np.int32(0), {"w": np.zeros((2, 3), np.float32)}),)
    new = {"0": {"mu": {"w": np.arange(6, dtype=np.float32).reshape(2, 3) + 0.5}, "count": np.int32(9)}}
    after = overlay(target, new)
    assert isinstance(after[0], Moments)
    assert isinstance(after[0].count, jax.Array)
    assert int(after[0].count) == 9
    np.testing.assert_array_equal(after[0].mu["w"], new["0"]["mu"]["w"], strict=True)
    assert target[0].count == 0


def test_overlay_lists_every_leaf_that_is_missing_extra_or_of_another_kind():
    wrong = {"b": {"x": np.float32([2.5]), "z": np.int32([[7]])}, "a": np.float64([[1.5, 4.0, 9.0]])}
    with pytest.raises(BridgeError) as refused:
        overlay(tree(), wrong)
    assert str(refused.value).splitlines() == [
        "a is float64[1, 3], expected float32[1, 3]",
        "b/x is float32[1], expected float32[2]",
        "b/y is missing; nearest: b.z, b.x",
        "b/z belongs nowhere; nearest: b.y, b.x",
    ]


def test_axes_by_path_and_a_leaf_as_text():
    axes = flat_axes({"w": PartitionSpec("embed", "layers", "mlp"), "b": {"s": PartitionSpec("norm")}})
    assert axes == {("w",): ("embed", "layers", "mlp"), ("b", "s"): ("norm",)}
    leaf = jax.ShapeDtypeStruct((20, 3, 44), jnp.bfloat16)
    assert describe(leaf, ("embed", "layers", "mlp"), 1) == "bfloat16[20,44] (embed, mlp)"
    assert describe(leaf, ("embed", "stack", "mlp"), 1) == "bfloat16[20,44] (embed, mlp) layer axis called stack"
    assert describe(leaf, ("embed",), 1) == "bfloat16[20,44] (embed) layer axis called absent"
    assert describe(leaf, ("embed", None, "mlp"), -1) == "bfloat16[20,3,44] (embed, None, mlp)"
