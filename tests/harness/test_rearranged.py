"""Leaves stored otherwise: every element goes somewhere, once, unchanged, and comes back."""

import numpy as np
import pytest

from harness.names import Leaf, NameMap, NameMapError, gather, spread, table
from harness.rearranged import rearranged_rows
from tests.harness.fabricate import generic

LINEN = {
    ("params", ("q", "kernel")): Leaf(shape=(4, 2, 3), dtype="float32"),
    ("params", ("k", "kernel")): Leaf(shape=(4, 2, 3), dtype="float32"),
    ("params", ("both",)): Leaf(shape=(5, 7), dtype="float32"),
}
NNX = {
    ("params", ("qk",)): Leaf(shape=(4, 12), dtype="float32"),
    ("params", ("left",)): Leaf(shape=(2, 7), dtype="float32"),
    ("params", ("right",)): Leaf(shape=(7, 3), dtype="float32"),
}


def sound(linen):
    fused = np.stack([linen[f"params/{name}/kernel"] for name in "qk"], axis=2)  # [4, 2, 2, 3]
    both = linen["params/both"]
    return {"params/qk": fused.reshape(4, 12), "params/left": both[:2], "params/right": both[2:].T}


def test_every_element_goes_and_comes_back():
    rows = rearranged_rows(LINEN, NNX, sound)
    names = NameMap(rows=rows)
    assert [row.name for row in rows] == [
        "params/q/kernel",
        "params/k/kernel",
        "params/both:left",
        "params/both:right",
    ]
    weights = {row.name: generic(row.leaf.shape, seed=at).astype("float32") for at, row in enumerate(rows)}
    linen, nnx = (spread(names, side, weights) for side in ("linen", "nnx"))
    assert {key: array.shape for key, array in linen.items()} == {key: leaf.shape for key, leaf in LINEN.items()}
    moved = sound({"/".join((key[0], *key[1])): array for key, array in linen.items()})
    assert all(np.array_equal(nnx["params", tuple(name.split("/")[1:])], value) for name, value in moved.items())
    for side, stored in (("linen", linen), ("nnx", nnx)):
        back = gather(names, side, stored)
        assert all(np.array_equal(back[name], value) for name, value in weights.items())
    assert table(names)["params/q/kernel"] == {"linen": "params/q/kernel", "nnx": "params/qk [24 of 48 elements]"}


def without(name):
    return lambda linen: {key: value for key, value in sound(linen).items() if key != name}


def other(name, change):
    return lambda linen: {**sound(linen), name: change(sound(linen)[name])}


WRONG = {
    "lost": (without("params/left"), "of linen params/both, 14 elements are lost and 0 are used twice"),
    "doubled": (other("params/left", lambda value: np.stack([value[0], value[0]])), "7 elements are lost and 7 are"),
    "changed": (other("params/left", lambda value: value + 1000), "14 elements come from no Linen leaf"),
    "scaled": (other("params/left", lambda value: value * 0.5), "it may only move elements"),
    "shape": (other("params/left", lambda value: value.T), "makes [7, 2] for nnx params/left, which is float32[2, 7]"),
    "name": (lambda linen: {"params/lef": linen["params/both"]}, "params/lef, which nnx does not have"),
    "read": (lambda linen: {"params/left": linen["params/bot"]}, "`rearranged` raised KeyError: 'params/bot'"),
    "nothing": (lambda linen: {}, "`rearranged` returns nothing"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_does_not_fit_is_named(wrong):
    function, sentence = WRONG[wrong]
    with pytest.raises(NameMapError) as caught:
        rearranged_rows(LINEN, NNX, function)
    assert sentence in str(caught.value)


def test_dtypes_must_be_equal():
    with pytest.raises(NameMapError, match="make the dtypes equal"):
        rearranged_rows(LINEN, {**NNX, ("params", ("qk",)): Leaf(shape=(4, 12), dtype="bfloat16")}, sound)
