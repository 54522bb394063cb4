"""Mistakes that MaxText's unmerged converter makes, each made here by hand: none of them is our conversion.

A row: the source, the options of ours, what is right (written down, not converted), and the mistake made in it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import numpy as np
import pytest

from impl.checkpoint import CheckpointError, KeyArray
from impl.checkpoint.leaves.leaf import same_bytes
from tests.impl.checkpoint import zoo
from tests.impl.checkpoint.dialects.test_dialects import moved, normal, same


def other_groups_ignored(right):
    """Only `layers` is known: dense and mixture layers stay one by one."""
    model = zoo.tree("D3", "two_apart", "adamw", "none")["model"]
    right["model"]["decoder"] = model["decoder"]


def slots_left_behind(right):
    """The weights are stacked, mu and nu are not."""
    wrong = zoo.tree("D3", "apart", "adamw", "none")["optimizer"]["opt_state"]["0"]
    right["optimizer"]["opt_state"]["0"] |= {"mu": wrong["mu"], "nu": wrong["nu"]}


def always_apart(right):
    """A stack that came from Linen is taken apart on the way back."""
    right["params"] = zoo.tree("D1", "apart", "adamw", "none")["params"]


def blocks_sliced_as_layers(right):
    """The layers inside a block are taken for leaves of it: layers_0/layers_0, layers_0/layers_1..."""
    stacked = zoo.tree("D1", "blocks", "adamw", "none")["params"]["params"]["decoder"]
    decoder = {"layers_remainder": stacked["layers_remainder"], "decoder_norm": stacked["decoder_norm"]}
    for block in range(3):
        decoder[f"layers_{block}"] = sliced(stacked["layers"], block)
    right["params"]["params"]["decoder"] = decoder


def axis_taken_for_granted(right):
    """Axis 1 is cut whatever the layers were stacked at."""
    stacked = zoo.tree("D1", "axis0", "adamw", "none")["params"]["params"]["decoder"]
    decoder = {f"layers_{i}": sliced(stacked["layers"], i) for i in range(3)}
    right["params"]["params"]["decoder"] = decoder | {"decoder_norm": stacked["decoder_norm"]}


def streams_among_weights(right):
    """Counters and keys of random streams land among Linen's parameters."""
    model = zoo.tree("D3", "axis1", "adamw", "rngs")["model"]
    right["params"]["params"]["decoder"]["rngs"] = model["decoder"]["rngs"]


def step_as_it_was(right):
    """NNX's unsigned counter goes to Linen unchanged."""
    right["step"] = right["step"].astype(np.uint32)


def sliced(node, index):
    if isinstance(node, dict):
        return {key: sliced(child, index) for key, child in node.items()}
    return np.take(node, index, min(1, node.ndim - 1), mode="clip")


@dataclass(frozen=True, kw_only=True)
class Row:
    source: tuple
    right: tuple
    mistake: object
    options: dict = field(default_factory=dict)


ROWS = (
    Row(
        source=("D1", "two_apart", "adamw", "none"),
        right=("D3", "two", "adamw", "none"),
        options={"layout": "scanned"},
        mistake=other_groups_ignored,
    ),
    Row(
        source=("D1", "apart", "adamw", "none"),
        right=("D3", "axis1", "adamw", "none"),
        options={"layout": "scanned"},
        mistake=slots_left_behind,
    ),
    Row(source=("D3", "axis1", "adamw", "none"), right=("D1", "axis1", "adamw", "none"), mistake=always_apart),
    Row(
        source=("D3", "blocks", "adamw", "none"),
        right=("D1", "blocks_apart", "adamw", "none"),
        options={"layout": "unscanned"},
        mistake=blocks_sliced_as_layers,
    ),
    Row(
        source=("D3", "axis0", "adamw", "none"),
        right=("D1", "apart", "adamw", "none"),
        options={"layout": "unscanned", "axis": 0},
        mistake=axis_taken_for_granted,
    ),
    Row(source=("D3", "axis1", "adamw", "rngs"), right=("D1", "axis1", "adamw", "none"), mistake=streams_among_weights),
    Row(source=("D3", "axis1", "adamw", "none"), right=("D1", "axis1", "adamw", "none"), mistake=step_as_it_was),
)


def equal(one, two):
    left, right = normal(one).leaves, normal(two).leaves
    return set(left) == set(right) and all(same_bytes(left[path], right[path]) for path in left)


@pytest.mark.parametrize("row", ROWS, ids=[row.mistake.__name__ for row in ROWS])
def test_ours_is_right_and_the_mistake_is_another_tree(row):
    ours = moved(zoo.tree(*row.source), row.right[0], **row.options)
    right = zoo.tree(*row.right, origin=row.source[0])
    same(ours, right)
    wrong = copy.deepcopy(right)
    row.mistake(wrong)
    assert not equal(ours, wrong)


@pytest.mark.parametrize("place", ["params", "mu", "nu"])
def test_a_child_that_one_layer_lacks_is_no_longer_dropped_in_silence(place):
    tree = zoo.tree("D1", "apart", "adamw", "none")
    trees = {"params": tree["params"]} | {salt: tree["opt_state"][0][salt] for salt in ("mu", "nu")}
    del trees[place]["params"]["decoder"]["layers_1"]["mlp"]["wo"]
    with pytest.raises(CheckpointError, match="mlp/wo/kernel: absent in layer 1, present in layer 0"):
        moved(tree, "D3", "scanned")


def test_one_wrapper_and_no_second_one_around_it():
    once = moved(zoo.tree("D1", "axis1", "adamw", "none"), "D4")
    same(moved(once, "D4"), once)
    assert all(path.count("value") == 1 for path in normal(once).leaves)


def test_streams_keep_their_own_axis():
    tree = moved(zoo.tree("D3", "axis2", "adamw", "rngs"), "D3", "unscanned", axis=2)
    key = tree["model"]["decoder"]["layers"]["1"]["dropout"]["rngs"]["dropout"]["key"]
    assert isinstance(key, KeyArray)
    assert key.words.shape == (4,)
