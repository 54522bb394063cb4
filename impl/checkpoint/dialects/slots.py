"""Whether an optimizer's slots hold the layers that the weights hold: it may leave weights out, but no layers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from impl.checkpoint.dialects.canonical import Canonical
from impl.checkpoint.dialects.layers import ROOT, Group, axis_of, layer_of
from impl.checkpoint.leaves.leaf import Leaves, Path, rank_of, shape_of, show

__all__ = ["disagreements", "misnoted"]


def disagreements(canonical: Canonical) -> tuple[str, ...]:
    """What slots and weights do not agree on, a sentence each: layers, and leaves of a slot that mirror no weight."""
    found = []
    for name, slot in canonical.slots.items():
        strange = sorted(other for other in canonical.scalars if other.startswith(f"{name}/"))
        if strange:
            found.append(f"slot {name}: {strange[0]} and {len(strange) - 1} other leaves mirror no weight")
        found += [f"slot {name}: {words}" for words in _layers(canonical.weights, slot)]
        for group in canonical.groups:
            if group.form == "stacked" and group.axis >= 0:
                found += [f"slot {name}: {words}" for words in _depths(canonical.weights, slot, group)]
    return tuple(found)


def misnoted(canonical: Canonical, noted: Mapping[str, Any]) -> tuple[str, ...]:
    """That the writer's own word on scan_layers is another than the tree's, where it is."""
    stacked = any(group.form == "stacked" for group in canonical.groups)
    if not canonical.groups or noted.get("scan_layers", stacked) == stacked:
        return ()
    words = "" if stacked else "not "
    return (
        f"scan_layers is noted as {noted['scan_layers']}, and the layers are {words}stacked: the tree was believed",
    )


def _layers(weights: Leaves, slot: Leaves) -> list[str]:
    """Leaves that the slot holds for some layers only."""
    mine, theirs = _numbers(weights), _numbers(slot)
    return [
        f"{ROOT}/{group}_*/{show(rest)} is there for the layers {sorted(layers)}, its weight for {sorted(mine[key])}"
        for key, layers in theirs.items()
        for group, rest in [key]
        if layers != mine[key]
    ]


def _numbers(leaves: Leaves) -> dict[tuple[str, Path], set[int]]:
    found: defaultdict[tuple[str, Path], set[int]] = defaultdict(set)
    for path in leaves:
        if layer := layer_of(path):
            found[layer[0], layer[2]].add(layer[1])
    return found


def _depths(weights: Leaves, slot: Leaves, group: Group) -> list[str]:
    """Stacked leaves of the slot that differ from their weight in the number of layers alone."""
    found = []
    for path, leaf in slot.items():
        weight = weights[path]
        if path[:2] != (ROOT, group.name) or leaf is None or rank_of(leaf) != rank_of(weight) or not rank_of(leaf):
            continue
        axis, mine, theirs = axis_of(weight, group.axis), shape_of(weight), shape_of(leaf)
        if mine != theirs and mine[:axis] + mine[axis + 1 :] == theirs[:axis] + theirs[axis + 1 :]:
            found.append(f"{show(path)} has {theirs[axis]} layers, its weight has {mine[axis]}")
    return found
