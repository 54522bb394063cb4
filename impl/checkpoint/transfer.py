"""Carries out a plan: data files linked or copied, chunks made anew where they must be, index and metadata written."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Literal

from impl.checkpoint.chunks import chunk_key, dtype_of_array, metadata_key, metadata_value, value_length
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.index import Extent, StoredArray, Value
from impl.checkpoint.index_writer import write_index
from impl.checkpoint.location import sync
from impl.checkpoint.orbax_metadata import write_tree
from impl.checkpoint.plan import Plan
from impl.checkpoint.rechunk import DataFiles, make_chunks
from impl.checkpoint.source import Source
from impl.checkpoint.values import encoded

__all__ = ["Mode", "Transfer", "Watch", "carry_out", "carry_tree", "entries_of"]

Mode = Literal["auto", "link", "copy"]
Watch = Callable[[int, int], None]
"""Told of bytes when they have been moved, and of how many there are in all."""
STEP = 64 << 20
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.EACCES, errno.ENOSYS}
_NO_RANGE = {errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """How the leaves of a target came by their bytes. Bytes are encoded ones.

    mode: what was done with the source's data files. kept: leaves whose bytes stayed as they were, in linked or copied
    files. inline: those whose few bytes lie in the index. made: those that were decoded or cut and written anew.
    file_bytes: of the linked or copied files. entries: the index as it was written.
    """

    mode: Literal["link", "copy"]
    kept_leaves: int
    kept_bytes: int
    inline_leaves: int
    made_leaves: int
    made_bytes: int
    file_bytes: int
    entries: Mapping[str, Value]


def carry_out(source: Source, plan: Plan, items: FilePath, mode: Mode, watch: Watch) -> Transfer:
    """Writes the planned checkpoint to the new folder `items`; it is on the disk when this returns.

    Raises CheckpointError where links are asked for and cannot be made, OSError where the disk refuses.
    """
    items.mkdir(parents=True)
    files = sorted({file for array in plan.relinked.values() for file in _files(array)})
    sizes = {file: (source.items / file).stat().st_size for file in files}
    how = _chosen(source.items, items, files, mode)
    moving = sum(map(_bytes, (rewrite.array for rewrite in plan.rewritten.values())))
    total = moving + (sum(sizes.values()) if how == "copy" else 0)

    def moved(count: int) -> None:
        watch(count, total)

    for file in files:
        _carried(source.items / file, items / file, how, moved)
    made = _made(source, plan, items, moved)
    arrays = {**plan.relinked, **made}
    entries = entries_of(arrays.values())
    if entries:
        write_index(items, entries)
    write_tree(items, plan.tree, {name: (array.shape, array.chunk_shape) for name, array in arrays.items()})
    _sync_below(items, set() if how == "copy" else {items / file for file in files})
    inline = sum(not any(_files(array)) for array in plan.relinked.values())
    return Transfer(
        mode=how,
        kept_leaves=len(plan.relinked) - inline,
        kept_bytes=_encoded_bytes(plan.relinked.values()),
        inline_leaves=inline,
        made_leaves=len(made),
        made_bytes=_encoded_bytes(made.values()),
        file_bytes=sum(sizes.values()),
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


def carry_tree(source: FilePath, target: FilePath, mode: Literal["link", "copy"]) -> None:
    """Links or copies a file, or a folder with all that is in it, as it is."""
    if source.is_dir() and not source.is_symlink():
        target.mkdir()
        for child in source.iterdir():
            carry_tree(child, target / child.name, mode)
        sync(target)
    else:
        _carried(source, target, mode, lambda count: None)


def _made(source: Source, plan: Plan, items: FilePath, moved: Callable[[int], None]) -> dict[str, StoredArray]:
    """The arrays whose chunks have to be written, with the chunks that were."""
    out = DataFiles(items)
    try:
        made = {array.name: array for array in make_chunks(source, plan.rewritten, out, moved)}
        for name, (array, values) in plan.literals.items():
            made[name] = replace(array, chunks={place: out.put(data) for place, data in encoded(array, values)})
        return made
    finally:
        out.close()


def _files(array: StoredArray) -> Iterable[str]:
    return (value.file for value in array.chunks.values() if isinstance(value, Extent))


def _bytes(array: StoredArray) -> int:
    return math.prod(array.shape) * dtype_of_array(array).itemsize


def _encoded_bytes(arrays: Iterable[StoredArray]) -> int:
    return sum(value_length(value) for array in arrays for value in array.chunks.values())


def _chosen(source: FilePath, items: FilePath, files: list[str], mode: Mode) -> Literal["link", "copy"]:
    """Whether to link or to copy: for "auto", what a first link shows to be possible."""
    if mode == "copy" or not files:
        return "copy" if mode == "copy" else "link"
    trial = items / "trial"
    try:
        os.link(source / files[0], trial)
        trial.unlink()
        return "link"
    except OSError as problem:
        if mode == "auto" and problem.errno in _NO_LINK:
            return "copy"
        raise CheckpointError(
            f"{items}: no hard link to {source / files[0]} can be made ({problem.strerror}): write to the file system "
            "of the source, or choose copies"
        ) from problem


def _carried(source: FilePath, target: FilePath, mode: Literal["link", "copy"], moved: Callable[[int], None]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if mode == "link":
        os.link(source, target)
        return
    with source.open("rb") as old, target.open("xb") as new:
        left = os.fstat(old.fileno()).st_size
        while left:
            count = _copied(old.fileno(), new.fileno(), min(left, STEP))
            if not count:
                raise CheckpointError(f"{source}: became shorter while it was copied: convert again")
            left -= count
            moved(count)
        os.fsync(new.fileno())


def _copied(old: int, new: int, count: int) -> int:
    """Copies up to `count` bytes on, without them passing through this process where the system can."""
    try:
        return os.copy_file_range(old, new, count)
    except OSError as problem:
        if problem.errno not in _NO_RANGE:
            raise
        return os.sendfile(new, old, None, count)


def _sync_below(folder: FilePath, spared: set[FilePath]) -> None:
    """Waits until all files and folders from `folder` on are on the disk, but for those that were there before."""
    for place, _, names in os.walk(folder):
        for name in names:
            if FilePath(place) / name not in spared:
                sync(FilePath(place) / name)
        sync(FilePath(place))
