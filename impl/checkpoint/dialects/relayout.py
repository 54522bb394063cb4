"""Which dialect a target gets, and layer groups stacked or taken apart in weights, slots and other state alike."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

from impl.checkpoint.dialects.canonical import REFERENCE, Canonical
from impl.checkpoint.dialects.cycles import cycled, numbered
from impl.checkpoint.dialects.dialect import LINEN, Dialect
from impl.checkpoint.dialects.layers import ROOT, Group, settle
from impl.checkpoint.dialects.restack import share_streams, stack, unstack
from impl.checkpoint.dialects.slots import check_slots
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.leaf import Leaf, Leaves, Path, shape_of, show

__all__ = ["named", "relayout", "target_dialect"]


def target_dialect(canonical: Canonical, to: str) -> Dialect:
    """The dialect that `to` means for this checkpoint: Linen with aux is D2, Linen without is D1, NNX is D3."""
    if to in get_args(Dialect):
        return to  # type: ignore[return-value]
    linen = to == "linen" or (to == "auto" and canonical.dialect not in LINEN)
    beside = canonical.aux or "nnx_aux" in canonical.collections
    return "D3" if not linen else "D2" if beside else "D1"


def relayout(canonical: Canonical, layout: str, scan_axis: int, cycle: int) -> Canonical:
    """`canonical` with every layer group stacked ("scanned"), taken apart ("unscanned"), or as it is ("keep").

    A stack is made of blocks of `cycle` layers; how many a stack holds that is taken apart, its names say. Raises
    CheckpointError for slots that are not those of the weights.
    """
    given = canonical
    notes: list[str] = []
    for group in canonical.groups:
        if layout == "keep" or (layout == "scanned") == (group.form == "stacked"):
            if layout == "scanned" and group.axis not in (-1, scan_axis):
                notes.append(
                    f"{ROOT}/{group.name} is stacked at axis {group.axis} already and stays so; "
                    "unscan it first to move it"
                )
            continue
        if layout == "unscanned":
            canonical = _move(canonical, group, layout, scan_axis)
            canonical = numbered(canonical, named(canonical.groups, group.name))
        else:
            canonical = cycled(canonical, group, cycle)
            canonical = _move(canonical, named(canonical.groups, group.name), layout, scan_axis)
    check_slots(given)  # last: what stops a move is the better word on a tree that is not whole
    return replace(canonical, notes=(*canonical.notes, *notes))


def named(groups: tuple[Group, ...], name: str) -> Group:
    """The group called `name`."""
    return next(group for group in groups if group.name == name)


def _move(canonical: Canonical, group: Group, layout: str, scan_axis: int) -> Canonical:
    """One group moved in the weights, in every slot and in all other state alike."""
    if layout == "unscanned":
        settled = settle(group, canonical.weights, scan_axis)
        axis, step, after = settled.axis, unstack, replace(settled, form="suffixed", axis=-1, candidates=())
    else:
        settled, axis, step = group, scan_axis, stack
        aux, notes = share_streams(canonical.aux, group)
        canonical = replace(canonical, aux=aux, notes=(*canonical.notes, *notes))
        after = replace(group, form="stacked", axis=axis, candidates=((axis, group.depth),))
    _check_mirrors(canonical)

    def moved(tree: Leaves, at: int) -> dict[Path, Leaf]:
        return step(tree, settled, at)

    trees = {
        name: moved(tree, axis if name == REFERENCE else 0) if name != "nnx_aux" else tree
        for name, tree in canonical.collections.items()
    }
    return replace(
        canonical,
        weights=moved(canonical.weights, axis),
        slots={name: moved(tree, axis) for name, tree in canonical.slots.items()},
        aux=moved(canonical.aux, 0),
        collections=trees,
        groups=tuple(after if other.name == group.name else other for other in canonical.groups),
    )


def _check_mirrors(canonical: Canonical) -> None:
    for name, tree in canonical.slots.items():
        for path, leaf in tree.items():
            weight = canonical.weights[path]
            if leaf is not None and shape_of(leaf) != shape_of(weight):
                raise CheckpointError(
                    f"slot {name}, {show(path)}: shape {shape_of(leaf)}, its weight has {shape_of(weight)}: a factored "
                    "optimizer's state has no layer axis of its own; keep the layout"
                )
