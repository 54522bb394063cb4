"""Whether an optimizer's slots hold the layers that the weights hold: it may leave weights out, but no layers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from impl.checkpoint.dialects.canonical import Canonical
from impl.checkpoint.dialects.layers import ROOT, Group, axis_of, is_array, layer_of
from impl.checkpoint.dialects.optimizers import split_name
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.leaf import Leaves, Path, rank_of, shape_of, show

__all__ = ["check_slots", "disagreements", "misnoted"]


def check_slots(canonical: Canonical) -> None:
    """Raises CheckpointError for slots that are not those of the weights beside them."""
    if wrong := disagreements(canonical):
        raise CheckpointError(f"{wrong[0]}: take a whole checkpoint, nothing is dropped or made up")


def disagreements(canonical: Canonical) -> tuple[str, ...]:
    """What slots and weights do not agree on, a sentence each: layers, leaves that mirror no weight, twin moments."""
    found = _strangers(canonical)
    for name, slot in canonical.slots.items():
        found += [f"slot {name}: {words}" for words in _layers(canonical.weights, slot)]
        for group in canonical.groups:
            if group.form == "stacked" and group.axis >= 0:
                found += [f"slot {name}: {words}" for words in _depths(canonical.weights, slot, group)]
    return (*found, *_lone_twins(canonical.slots))


def misnoted(canonical: Canonical, noted: Mapping[str, Any]) -> tuple[str, ...]:
    """That the writer's own word on scan_layers is another than the tree's, where it is."""
    stacked = any(group.form == "stacked" for group in canonical.groups)
    if not canonical.groups or noted.get("scan_layers", stacked) == stacked:
        return ()
    words = "" if stacked else "not "
    return (
        f"scan_layers is noted as {noted['scan_layers']}, and the layers are {words}stacked: the tree was believed",
    )


def _strangers(canonical: Canonical) -> list[str]:
    """Leaves in a slot, or under a name of the model, that mirror no weight."""
    tops = {path[0] for path in canonical.weights}
    strange: defaultdict[str, list[str]] = defaultdict(list)
    for name, leaf in canonical.scalars.items():
        slot = next((slot for slot in canonical.slots if name.startswith(f"{slot}/")), "")
        if slot or (is_array(leaf) and tops.intersection(split_name(name)[:-1])):
            strange[f"slot {slot}" if slot else "opt_state"].append(name)
    return [
        f"{where}: {min(names)} and {len(names) - 1} other leaves mirror no weight" for where, names in strange.items()
    ]


def _lone_twins(slots: Mapping[str, Leaves]) -> list[str]:
    """Leaves that one of the moments mu and nu has and the other lacks."""
    found = []
    for name, tree in slots.items():
        twin = f"{name[:-2]}nu"
        odd = min(set(tree) ^ set(slots.get(twin, tree)), default=()) if name.rpartition("/")[2] == "mu" else ()
        if odd:
            have, lack = (name, twin) if odd in tree else (twin, name)
            found.append(f"slot {lack}: {show(odd)} is not there, slot {have} has it")
    return found


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
