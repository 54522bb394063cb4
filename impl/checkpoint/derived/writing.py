"""A checkpoint that was planned, written aside, read back and given its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from impl.checkpoint.conversion.plan import Plan
from impl.checkpoint.conversion.transfer import carry_out
from impl.checkpoint.conversion.verification import check_computed, check_tree
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.leaf import bytes_of
from impl.checkpoint.leaves.tree import Flat
from impl.checkpoint.progress import Watch
from impl.checkpoint.storage.chunks import bytes_of_array
from impl.checkpoint.storage.data_files import Mode
from impl.checkpoint.storage.index import keys_of
from impl.checkpoint.storage.location import ITEM_NAMES, staged, sync
from impl.checkpoint.storage.orbax_metadata import check_orbax, write_step
from impl.checkpoint.storage.source import Source

__all__ = ["Place", "refuse_inside", "room_for", "size_of", "write_planned"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a tree goes: `relative` below the folder `target`, "." for that itself. noted: beside it, in `step`'s way.

    mode: how data files that are kept come there.
    """

    target: FilePath
    relative: FilePath
    noted: Mapping[str, Any]
    step: Mapping[str, Any]
    mode: Mode


def refuse_inside(source: FilePath, target: FilePath) -> None:
    """Raises CheckpointError for a target inside the source, which is only read."""
    if FilePath(target).absolute().is_relative_to(FilePath(source).absolute()):
        raise CheckpointError(
            f"{target}: lies inside the source {source}, which is only read: give a folder outside it"
        )


def write_planned(source: Source, plan: Plan, place: Place, watch: Watch) -> None:
    """Writes what is planned; what is computed is computed twice, to be held against what was written.

    watch: told of bytes written and read back. Raises CheckpointError; then nothing is left.
    """
    check_orbax()
    again = sum(bytes_of_array(leaf.array) for leaf in plan.computed.values())
    with staged(place.target) as stage:
        items = stage / place.relative
        done = carry_out(source, plan, items, place.mode, lambda count, total: watch(count, total + again))
        inside = items.name if place.relative.name in ITEM_NAMES else ""
        write_step(items.parent if inside else items, place.step, inside, place.noted)
        for folder in (items, *items.parents[: len(place.relative.parts)]):
            sync(folder)
        if done.entries and keys_of(items) != sorted(done.entries):
            raise CheckpointError(f"{items}: its index has other keys than were written: check the disk")
        check_tree(plan, items)
        check_computed(plan, items, lambda count: watch(count, done.moved_bytes + again))


def room_for(source: Source, names: Iterable[str]) -> int:
    """Bytes of the largest of some stored arrays: room in which a chunk of theirs is decoded once."""
    return max((bytes_of_array(source.arrays[name]) for name in names), default=0)


def size_of(flat: Flat) -> int:
    """Bytes of all arrays, uncompressed."""
    return sum(bytes_of(leaf) for leaf in flat.leaves.values())
