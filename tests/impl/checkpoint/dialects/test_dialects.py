"""Every dialect to every other, against trees that were written down and not converted; every layout likewise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from impl.checkpoint import load_tree, save_tree
from impl.checkpoint.conversion.convert import convert
from impl.checkpoint.dialects.assembly import assemble
from impl.checkpoint.dialects.canonical import canonicalise
from impl.checkpoint.dialects.relayout import relayout
from impl.checkpoint.leaves.leaf import LeafSpec, dtype_of, key_impl_of, same_bytes, shape_of
from impl.checkpoint.leaves.tree import Flat, flatten, nest
from tests.impl.checkpoint import zoo

AUX = ("rngs", "counters")
ALIKE = ("none", "reference", "lora")  # nothing that D1 has not, and that makes a D2


def normal(tree):
    flat = flatten(tree)
    leaves = {path: np.asarray(leaf) if isinstance(leaf, np.generic) else leaf for path, leaf in flat.leaves.items()}
    return Flat(leaves=leaves, lists=flat.lists)


def same(found, wanted):
    found, wanted = (flat if isinstance(flat, Flat) else normal(flat) for flat in (found, wanted))
    assert sorted(found.leaves) == sorted(wanted.leaves)
    assert [path for path in found.leaves if not same_bytes(found.leaves[path], wanted.leaves[path])] == []
    assert found.lists == wanted.lists


def moved(tree, dialect, layout="keep", *, axis=1, cycle=1):
    canonical = relayout(canonicalise(normal(tree)), layout, axis, cycle)
    return nest(assemble(canonical, dialect).flat)


def check_all_ways(layout, kind, state):
    for source, target in itertools.product(zoo.DIALECTS, zoo.DIALECTS):
        tree = zoo.tree(source, layout, kind, state)
        canonical = canonicalise(normal(tree))
        assert canonical.dialect == ("D1" if source == "D2" and state in ALIKE else source)
        there = moved(tree, target)
        same(there, zoo.tree(target, layout, kind, state, origin=source))
        back = moved(there, source)
        lost = target if kind in zoo.LOSSY or state in AUX else source
        same(back, zoo.tree(source, layout, kind, state, origin=lost))


@pytest.mark.parametrize("state", zoo.STATES)
@pytest.mark.parametrize("kind", zoo.OPTIMIZERS)
def test_every_optimizer_with_every_state(kind, state):
    check_all_ways("axis1", kind, state)


@pytest.mark.parametrize("layout", zoo.LAYOUTS)
def test_every_layout(layout):
    for kind, state in (("adamw", "rngs"), ("muon", "fp8"), ("trainable", "aqt")):
        check_all_ways(layout, kind, state)


MOVES = (
    *itertools.permutations(("axis0", "axis1", "axis2", "apart"), 2),
    *itertools.permutations(("two", "two_apart"), 2),
    *itertools.permutations(("blocks", "blocks_apart"), 2),
    *itertools.permutations(("scanned_blocks", "scanned_blocks_apart"), 2),
    *itertools.permutations(("next", "next_apart"), 2),
)


@pytest.mark.parametrize(("start", "end"), MOVES)
def test_layers_move_in_weights_slots_and_state_alike(start, end):
    before, after = zoo.LAYOUTS[start], zoo.LAYOUTS[end]
    for kind, state, source, target in (
        ("adamw", "rngs", "D2", "D3"),
        ("muon", "fp8", "D4", "D1"),
        ("skip", "aqt", "D3", "D4"),
        ("adam_pax", "lora", "D1", "D1"),
        ("trainable", "reference", "D1", "D3"),
    ):
        tree = zoo.tree(source, start, kind, state)
        if before.form != "apart" and after.form != "apart":  # stacks are moved by way of layers
            tree = moved(tree, source, "unscanned", axis=before.axis)
        layout = "unscanned" if after.form == "apart" else "scanned"
        axis = before.axis if layout == "unscanned" else after.axis
        wanted = zoo.tree(target, end, kind, state, origin=source)
        same(moved(tree, target, layout, axis=axis, cycle=after.cycle), wanted)


@pytest.mark.parametrize("dialect", zoo.DIALECTS)
def test_shapes_alone_take_the_same_way(dialect):
    tree = zoo.tree("D2", "two", "muon", "rngs")
    canonical = relayout(canonicalise(specs(normal(tree))), "unscanned", 1, 1)
    found = assemble(canonical, dialect).flat
    assert found == specs(assemble(relayout(canonicalise(normal(tree)), "unscanned", 1, 1), dialect).flat)


def test_an_axis_beyond_every_leaf_is_the_last_one_of_each():
    tree = {"params": {"params": {"decoder": {f"layers_{i}": {"w": zoo.values(f"w{i}", (2,))} for i in range(2)}}}}
    there = moved(tree, "D1", "scanned", axis=2)
    assert there["params"]["params"]["decoder"]["layers"]["w"].shape == (2, 2)
    same(moved(there, "D1", "unscanned", axis=2), tree)


def specs(flat):
    def spec(leaf):
        if not isinstance(leaf, np.ndarray) and not key_impl_of(leaf):
            return leaf
        return LeafSpec(shape_of(leaf), "uint32" if key_impl_of(leaf) else dtype_of(leaf), key_impl_of(leaf))

    return Flat(leaves={path: spec(leaf) for path, leaf in flat.leaves.items()}, lists=flat.lists)


@pytest.mark.parametrize("state", [state for state in zoo.STATES if state not in ("reference", *AUX)])
def test_parameters_alone(state):
    for layout in ("axis1", "apart", "blocks"):
        linen = {"params": {"params": zoo.tree("D1", layout, "none", state)["params"]["params"]}}
        bare = zoo.bare(layout, state)
        assert canonicalise(normal(bare)).dialect == "D4"
        same(moved(linen, "D4"), bare)
        same(moved(bare, "D1"), linen)
        same(moved(bare, "D3"), {"model": zoo.nest(zoo.numbered(zoo.weights(layout, state), True))})
        based = canonicalise(normal({"base": bare}))
        same(nest(assemble(based, "D1").flat), linen)
        assert based.notes == ("the level base/ around the model is left out",)


@pytest.mark.parametrize(("kind", "state"), [("muon", "aqt"), ("skip", "rngs")])
def test_through_the_disk(tmp_path, kind, state):
    tree = zoo.tree("D2", "axis1", kind, state)
    save_tree(tmp_path / "d2", tree)
    convert(tmp_path / "d2", tmp_path / "d4", to="D4", layout="unscanned", scan_axis=1)
    same(load_tree(tmp_path / "d4"), zoo.tree("D4", "apart", kind, state, origin="D2"))
    convert(tmp_path / "d4", tmp_path / "back", to="D2", layout="scanned", scan_axis=1)
    same(load_tree(tmp_path / "back"), tree)
