"""Data files of a source under the target: linked, or copied as far as the target needs them."""

from __future__ import annotations

import errno
import os
import stat
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Literal

from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.storage.flushing import Flusher
from impl.checkpoint.storage.index import Extent, StoredArray, Value
from impl.checkpoint.storage.location import sync

__all__ = ["How", "Mode", "Moved", "Run", "carry_file", "carry_tree", "chosen_mode", "moved_values", "needed_runs"]

Mode = Literal["auto", "link", "copy"]
How = Literal["link", "copy"]
Moved = Callable[[int], None]
"""Told of bytes as they are moved."""
Run = tuple[int, int]
"""A stretch of a file: its first byte and the one behind its last."""
STEP = 16 << 20
WHOLE = 0.9  # of a file: with more than this in use it is copied as it is, which keeps offsets as they are
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.EACCES, errno.ENOSYS}
_NO_RANGE = {errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}


def chosen_mode(source: FilePath, items: FilePath, files: Iterable[str], mode: Mode) -> How:
    """Whether to link or to copy: for "auto", what a first link shows to be possible.

    Raises CheckpointError where links are asked for and cannot be made.
    """
    first = next(iter(files), None)
    if mode == "copy" or first is None:
        return "copy" if mode == "copy" else "link"
    trial = items / "trial"
    try:
        os.link(source / first, trial)
        trial.unlink()
        return "link"
    except OSError as problem:
        if mode == "auto" and problem.errno in _NO_LINK:
            return "copy"
        if problem.errno not in _NO_LINK:
            raise
        raise CheckpointError(
            f"{items}: no hard link to {source / first} can be made ({problem.strerror}): write to the file system "
            "of the source, or choose copies"
        ) from problem


def needed_runs(source: FilePath, arrays: Iterable[StoredArray], mode: How) -> dict[str, list[Run]]:
    """File -> the stretches of it that `arrays` need, in order; all of it in one where it is linked or nearly all."""
    extents: dict[str, set[Run]] = {}
    for array in arrays:
        for value in array.chunks.values():
            if isinstance(value, Extent):
                extents.setdefault(value.file, set()).add((value.offset, value.offset + value.length))
    found: dict[str, list[Run]] = {}
    for file in sorted(extents):
        runs: list[Run] = []
        for start, end in sorted(extents[file]):
            if runs and start <= runs[-1][1]:
                runs[-1] = (runs[-1][0], max(end, runs[-1][1]))
            else:
                runs.append((start, end))
        size = (source / file).stat().st_size
        used = sum(end - start for start, end in runs)
        found[file] = [(0, size)] if mode == "link" or used > WHOLE * size else runs
    return found


def moved_values(array: StoredArray, runs: Mapping[str, list[Run]]) -> StoredArray:
    """The array with its chunks where they lie when a file holds its runs alone, one behind the other."""
    chunks = {place: _moved(value, runs) for place, value in array.chunks.items()}
    return array if chunks == array.chunks else replace(array, chunks=chunks)


def _moved(value: Value, runs: Mapping[str, list[Run]]) -> Value:
    if not isinstance(value, Extent):
        return value
    stretches = runs[value.file]
    if stretches[0][0] == 0 == len(stretches) - 1:
        return value
    at = bisect_right(stretches, value.offset, key=lambda run: run[0]) - 1
    before = sum(end - start for start, end in stretches[:at])
    return Extent(value.file, before + value.offset - stretches[at][0], value.length)


def carry_file(source: FilePath, target: FilePath, mode: How, runs: list[Run], moved: Moved) -> None:
    """Links a file, or copies its runs one behind the other; a copy is on the disk when this returns."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if mode == "link":
        os.link(source, target)
        return
    with source.open("rb") as old, target.open("xb") as new:
        flusher = Flusher(new.fileno())
        try:
            for start, end in runs:
                os.lseek(old.fileno(), start, os.SEEK_SET)
                left = end - start
                while left:
                    count = _copied(old.fileno(), new.fileno(), min(left, STEP))
                    if not count:
                        raise CheckpointError(f"{source}: became shorter while it was copied: convert again")
                    left -= count
                    flusher.wrote(count)
                    moved(count)
        finally:
            flusher.finish()


def carry_tree(source: FilePath, target: FilePath, mode: How) -> list[FilePath]:
    """Links or copies a file, or a folder with all that is in it, and returns what was left behind.

    That is what is neither: a symbolic link may lead anywhere, and a pipe gives no end to what is read of it.
    """
    kind = source.lstat().st_mode
    if stat.S_ISDIR(kind):
        target.mkdir()
        left = [path for child in sorted(source.iterdir()) for path in carry_tree(child, target / child.name, mode)]
        sync(target)
        return left
    if not stat.S_ISREG(kind):
        return [source]
    carry_file(source, target, mode, [(0, source.stat().st_size)], lambda count: None)
    return []


def _copied(old: int, new: int, count: int) -> int:
    """Copies up to `count` bytes on, without them passing through this process where the system can."""
    try:
        return os.copy_file_range(old, new, count)
    except OSError as problem:
        if problem.errno not in _NO_RANGE:
            raise
        return os.sendfile(new, old, None, count)
