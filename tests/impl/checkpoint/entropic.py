"""Moments made of weights for a tree in memory, as `entropy` makes them for one on disk."""

from __future__ import annotations

from impl.checkpoint.derived.entropy import moment_of, moments
from impl.checkpoint.leaves.tree import Flat


def with_entropy(flat):
    """The tree with every moment made in memory, the leaves made by slot, and the dialect."""
    found, slots, dialect = moments(flat)
    made = {path: moment_of(each.maker, each.weight, flat.leaves[path].dtype) for path, each in found.items()}
    return Flat(leaves={**flat.leaves, **made}, lists=flat.lists), slots, dialect
