"""entropy: moments made of weights, against float64, in every dialect alike."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest

from impl.checkpoint import CheckpointError, entropy, entropy_text, load_tree, save_tree
from impl.checkpoint.dialects.canonical import canonicalise
from impl.checkpoint.leaves.tree import nest
from tests.impl.checkpoint import zoo
from tests.impl.checkpoint.dialects.test_dialects import moved, normal, same
from tests.impl.checkpoint.entropic import with_entropy

KINDS = {"adamw": ("0/mu", "0/nu"), "adam_pax": ("mu", "nu"), "skip": ("inner_state/0/mu", "inner_state/0/nu")}
KINDS["adamw_mask"] = KINDS["adamw"]
KINDS["trainable"] = tuple(f"inner_states/trainable/inner_state/0/{slot}" for slot in ("mu", "nu"))
KINDS["muon"] = (
    "inner_states/adam/inner_state/0/mu",
    "inner_states/adam/inner_state/0/nu",
    "inner_states/muon/inner_state/0/mu",
)
ORACLE = {"mu": np.cos, "nu": np.sin}


def entropic(tree):
    return nest(with_entropy(normal(tree))[0])


@pytest.mark.parametrize("kind", KINDS)
def test_every_moment_is_the_float64_one_to_the_last_bit_of_its_own_dtype(kind):
    flat = normal(zoo.tree("D1", "axis1", kind, "lora"))
    made, slots, dialect = with_entropy(flat)
    assert (tuple(sorted(slots)), dialect) == (KINDS[kind], "D1")
    canonical, checked = canonicalise(made), 0
    for name, tree in canonical.slots.items():
        for path, leaf in tree.items():
            weight = canonical.weights[path].astype(np.float64)
            wanted = ORACLE[name.rpartition("/")[2]](1000 * weight)
            last = float(ml_dtypes.finfo(leaf.dtype).eps) / 2
            bound = np.abs(1000 * weight) * 2.0**-24 + np.maximum(np.abs(wanted) * last, 2.0**-10 * last)
            assert leaf.dtype == canonicalise(flat).slots[name][path].dtype
            error = np.abs(leaf.astype(np.float64) - wanted)
            assert (error <= bound * 1.001).all(), (path, float(error.max()))
            checked += 1
    assert checked == sum(slots.values()) > 5
    kept = [path for path in flat.leaves if made.leaves[path] is flat.leaves[path]]
    assert len(kept) == len(flat.leaves) - checked
    assert not any("mu" in path or "nu" in path for path in kept)


@pytest.mark.parametrize("kind", KINDS)
def test_entropy_then_conversion_is_conversion_then_entropy(kind):
    for start, layout, source, target in (
        ("axis1", "unscanned", "D1", "D3"),
        ("two_apart", "scanned", "D3", "D4"),
        ("blocks", "unscanned", "D4", "D2"),
        ("apart", "scanned", "D2", "D1"),
    ):
        tree = zoo.tree(source, start, kind, "fp8")
        same(entropic(moved(tree, target, layout)), moved(entropic(tree), target, layout))


def test_all_dialects_get_the_same_moments():
    trees = {dialect: entropic(zoo.tree(dialect, "two", "adamw", "none")) for dialect in ("D1", "D2", "D3", "D4")}
    for one, two in itertools.permutations(trees, 2):
        same(moved(trees[one], two), trees[two])


def test_a_value_depends_on_its_weight_and_not_on_its_place():
    weight = np.linspace(-3, 3, 1 << 12, dtype=np.float32)
    once = _moments(weight)
    for start, step in itertools.product((1, 2, 3, 5), (1, 2, 7)):
        cut = weight[start::step]
        assert _moments(cut).tobytes() == once[start::step].tobytes()


def _moments(weight):
    slots = {slot: {"params": {"decoder": {"w": np.zeros(weight.shape, np.float32)}}} for slot in ("mu", "nu")}
    tree = {"params": {"params": {"decoder": {"w": weight}}}, "opt_state": {"count": np.int32(1), **slots}}
    return entropic(tree)["opt_state"]["nu"]["params"]["decoder"]["w"]


def test_through_the_disk_the_source_stays_as_it_is(tmp_path):
    tree = zoo.tree("D4", "two", "muon", "rngs")
    save_tree(tmp_path / "source", tree)
    before = {path: path.read_bytes() for path in (tmp_path / "source").rglob("*") if path.is_file()}
    report = entropy(tmp_path / "source", tmp_path / "out")
    same(load_tree(tmp_path / "out"), entropic(tree))
    assert (report.dialect, set(report.slots)) == ("D4", set(KINDS["muon"]))
    assert "never train from it" in entropy_text(report)
    assert before == {path: path.read_bytes() for path in (tmp_path / "source").rglob("*") if path.is_file()}


def factored(tree):
    tree["opt_state"][0]["nu"]["params"]["mtp_block"]["mtp_layer_0"]["w"] = np.zeros((6, 1), np.float32)


def counted(tree):
    tree["opt_state"][0]["mu"]["params"]["mtp_block"]["mtp_layer_0"]["w"] = np.zeros((6, 3), np.int32)


def keyed(tree):
    tree["opt_state"][0]["mu"]["params"]["mtp_block"]["mtp_layer_0"]["w"] = "text"


@pytest.mark.parametrize(
    ("kind", "spoil", "words"),
    [
        ("sgd", None, r"with the slots \[\], expected mu or nu"),
        ("none", None, r"with the slots \[\], expected mu or nu"),
        ("adamw", factored, r"slot 0/nu, mtp_block/mtp_layer_0/w: shape \(6, 1\), its weight has \(6, 3\)"),
        ("adamw", counted, "slot 0/mu, mtp_block/mtp_layer_0/w: the slot is int32, expected floating point"),
        ("adamw", keyed, "slot 0/mu, mtp_block/mtp_layer_0/w: str, expected an array"),
    ],
)
def test_refused(kind, spoil, words):
    tree = zoo.tree("D1", "axis1", kind, "none")
    if spoil:
        spoil(tree)
    with pytest.raises(CheckpointError, match=words):
        with_entropy(normal(tree))
