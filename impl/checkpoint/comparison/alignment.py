"""Bringing two checkpoints to one layer layout, so that they can be compared leaf by leaf."""

from __future__ import annotations

from dataclasses import replace

from impl.checkpoint.dialects.canonical import REFERENCE, Canonical
from impl.checkpoint.dialects.cycles import numbered
from impl.checkpoint.dialects.layers import ROOT, Group
from impl.checkpoint.dialects.restack import share_streams, unstack
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.leaf import shape_of

__all__ = ["aligned"]

USUAL_AXIS = 1  # where MaxText stacks unless it is told otherwise


def aligned(left: Canonical, right: Canonical) -> tuple[Canonical, Canonical, tuple[str, ...]]:
    """Both checkpoints with their stacked layers taken apart, and notes on what could not be.

    Where the tree of one side fits several scan axes, the other side decides. A group stays stacked when no axis fits
    it; that only hides nothing when both sides are stacked alike, so it is noted.
    """
    notes: list[str] = []
    one, two = left, right
    for group in left.groups:
        one = _apart(one, group, right, notes)
    for group in right.groups:
        two = _apart(two, group, left, notes)
    return one, two, tuple(notes)


def _apart(canonical: Canonical, group: Group, other: Canonical, notes: list[str]) -> Canonical:
    twin = next((found for found in other.groups if found.name == group.name), None)
    if group.form != "stacked":
        if twin is None or twin.form != "stacked":
            return canonical
        return _shared(canonical, group, notes)
    axis = group.axis if group.axis >= 0 else _chosen(canonical, group, other)
    depth = dict(group.candidates).get(axis)
    if depth is None:
        notes.append(f"{ROOT}/{group.name}: no scan axis fits all leaves, so it was compared as it is stored")
        return canonical
    if group.axis < 0:
        notes.append(f"{ROOT}/{group.name}: several scan axes fit; axis {axis} was taken")
    settled = replace(group, axis=axis, depth=depth)
    try:
        apart = replace(
            canonical,
            weights=unstack(canonical.weights, settled, axis),
            slots={name: unstack(tree, settled, axis) for name, tree in canonical.slots.items()},
            aux=unstack(canonical.aux, settled, 0),
            collections={
                name: unstack(tree, settled, axis if name == REFERENCE else 0) if name != "nnx_aux" else tree
                for name, tree in canonical.collections.items()
            },
        )
        apart = numbered(apart, settled)
    except CheckpointError as error:
        notes.append(f"{ROOT}/{group.name}: compared as it is stored, because {error}")
        return canonical
    single = next((found for found in apart.groups if found.name == group.name and found.form != "stacked"), None)
    return _shared(apart, single, notes) if single and twin and twin.form != "stacked" else apart


def _shared(canonical: Canonical, group: Group, notes: list[str]) -> Canonical:
    """With each layer's streams written out, because the other checkpoint has room for them or shares others."""
    aux, shared = share_streams(canonical.aux, group)
    notes.extend(shared)
    return replace(canonical, aux=aux)


def _chosen(canonical: Canonical, group: Group, other: Canonical) -> int:
    """The scan axis of an undecided group: the other side's, else the one that gives the other side's shapes."""
    fits = dict(group.candidates)
    twin = next((found for found in other.groups if found.name == group.name), None)
    if twin and twin.axis in fits:
        return twin.axis
    wanted = {path: shape_of(leaf) for path, leaf in other.weights.items()}
    usual_first = sorted(fits, key=lambda axis: axis != USUAL_AXIS)
    for axis in usual_first:
        taken = unstack(canonical.weights, replace(group, axis=axis, depth=fits[axis]), axis)
        if all(wanted.get(path, shape_of(leaf)) == shape_of(leaf) for path, leaf in taken.items()):
            return axis
    return next(iter(usual_first), -1)
