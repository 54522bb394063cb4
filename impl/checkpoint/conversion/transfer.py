"""Carries out a plan: data files linked or copied, chunks made anew where they must be, index and metadata written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Literal

import numpy as np

from impl.checkpoint.conversion.plan import Computed, Plan
from impl.checkpoint.conversion.rechunk import DataFiles, make_chunks
from impl.checkpoint.progress import Watch
from impl.checkpoint.storage.chunks import bytes_of_array, chunk_key, metadata_key, metadata_value, value_length
from impl.checkpoint.storage.data_files import Mode, carry_file, chosen_mode, moved_values, needed_runs
from impl.checkpoint.storage.index import Extent, StoredArray, Value
from impl.checkpoint.storage.index_writer import write_index
from impl.checkpoint.storage.location import sync
from impl.checkpoint.storage.orbax_metadata import write_tree
from impl.checkpoint.storage.source import Source
from impl.checkpoint.storage.values import Part, encoded, whole_of

__all__ = ["Transfer", "carry_out", "entries_of"]


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """How the leaves of a target came by their bytes. Bytes are encoded ones.

    mode: what was done with the source's data files. kept: leaves whose bytes stayed as they were, in linked or copied
    files. inline: those whose few bytes lie in the index. made: those that were decoded or cut and written anew.
    file_bytes: of the linked files, or as many as were copied. moved_bytes: that were told of, decoded where they were
    made. entries: the index as it was written.
    """

    mode: Literal["link", "copy"]
    kept_leaves: int
    kept_bytes: int
    inline_leaves: int
    made_leaves: int
    made_bytes: int
    file_bytes: int
    moved_bytes: int
    entries: Mapping[str, Value]


def carry_out(source: Source, plan: Plan, items: FilePath, mode: Mode, watch: Watch) -> Transfer:
    """Writes the planned checkpoint to the new folder `items`; it is on the disk when this returns.

    Raises CheckpointError where links are asked for and cannot be made, OSError where the disk refuses.
    """
    items.mkdir(parents=True)
    how = chosen_mode(source.items, items, (file for array in plan.relinked.values() for file in _files(array)), mode)
    runs = needed_runs(source.items, plan.relinked.values(), how)
    sizes = {file: sum(end - start for start, end in runs[file]) for file in runs}
    anew = [each.array for each in plan.rewritten.values()] + [each.array for each in plan.computed.values()]
    moving = sum(map(bytes_of_array, anew))
    total = moving + (sum(sizes.values()) if how == "copy" else 0)

    def moved(count: int) -> None:
        watch(count, total)

    for file in runs:
        carry_file(source.items / file, items / file, how, runs[file], moved)
    kept = {name: moved_values(array, runs) for name, array in plan.relinked.items()}
    made, literals = _made(source, plan, items, moved)
    arrays = {**kept, **made, **literals}
    entries = entries_of(arrays.values())
    if entries:
        write_index(items, entries)
    write_tree(items, plan.tree, {name: (array.shape, array.chunk_shape) for name, array in arrays.items()})
    _sync_below(items, {items / file for file in runs})
    inline = sum(not any(_files(array)) for array in kept.values())
    return Transfer(
        mode=how,
        kept_leaves=len(kept) - inline,
        kept_bytes=_encoded_bytes(kept.values()),
        inline_leaves=inline + len(literals),
        made_leaves=len(made),
        made_bytes=_encoded_bytes(made.values()),
        file_bytes=sum(sizes.values()),
        moved_bytes=total,
        entries=entries,
    )


def entries_of(arrays: Iterable[StoredArray]) -> dict[str, Value]:
    """The index of a store that holds `arrays`: their metadata and their chunks by key."""
    entries: dict[str, Value] = {}
    known: dict[int, Value] = {}  # layers share one record of metadata
    for array in arrays:
        mark = id(array.metadata)
        entries[metadata_key(array)] = known[mark] = known.get(mark) or metadata_value(array)
        entries |= {chunk_key(array, place): value for place, value in array.chunks.items()}
    return entries


def _made(
    source: Source, plan: Plan, items: FilePath, moved: Callable[[int], None]
) -> tuple[dict[str, StoredArray], dict[str, StoredArray]]:
    """The arrays whose chunks have to be written, and the literals, with the chunks that were."""
    out = DataFiles(items)
    try:
        made = {array.name: array for array in make_chunks(source, plan.rewritten, out, moved)}
        literals = {
            name: replace(array, chunks={place: out.put(data) for place, data in encoded(array, whole_of(values))})
            for name, (array, values) in plan.literals.items()
        }
        for name, leaf in plan.computed.items():
            made[name] = _filled(leaf, out, moved)
        return made, literals
    finally:
        out.close()


def _filled(leaf: Computed, out: DataFiles, moved: Callable[[int], None]) -> StoredArray:
    """The array of a computed leaf with its chunks, each made, written and forgotten before the next."""
    values = leaf.opens()

    def told(part: Part) -> np.ndarray:
        found = values(part)
        moved(found.nbytes)
        return found

    return replace(leaf.array, chunks={place: out.put(data) for place, data in encoded(leaf.array, told)})


def _files(array: StoredArray) -> Iterable[str]:
    return (value.file for value in array.chunks.values() if isinstance(value, Extent))


def _encoded_bytes(arrays: Iterable[StoredArray]) -> int:
    return sum(value_length(value) for array in arrays for value in array.chunks.values())


def _sync_below(folder: FilePath, spared: set[FilePath]) -> None:
    """Waits until all files and folders from `folder` on are on the disk, but for files that are there already."""
    for place, _, names in os.walk(folder):
        for name in names:
            if FilePath(place) / name not in spared:
                sync(FilePath(place) / name)
        sync(FilePath(place))
