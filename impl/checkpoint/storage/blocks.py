"""The encoded bytes of a store, read block by block into buffers that are used again and again."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath
from types import TracebackType

import numpy as np

from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.storage.chunks import value_length
from impl.checkpoint.storage.index import Extent, Inline, Value

__all__ = ["BLOCK", "Blocks", "Bytes"]

BLOCK = 512 << 10
"""Bytes of one buffer. Two of them stay in a processor's cache, so that what was read is compared there; larger ones
were measured to be slower."""
MOST_FILES = 64


@dataclass(frozen=True, kw_only=True)
class Bytes:
    """Encoded bytes of `leaf`: where they lie below `folder`."""

    leaf: str
    folder: FilePath
    value: Value

    @property
    def length(self) -> int:
        """How many there are."""
        return value_length(self.value)


def _same(one: np.ndarray, two: np.ndarray) -> bool:
    words = len(one) // 8 * 8  # eight bytes at a time, then the rest
    wide = one[:words].view(np.uint64), two[:words].view(np.uint64)
    return bool((wide[0] == wide[1]).all()) and one[words:].tobytes() == two[words:].tobytes()


@dataclass(frozen=True)
class _Open:
    descriptor: int
    device: int
    inode: int
    size: int


class Blocks:
    """Open data files, a few at a time, and two buffers. A context manager; what it opened is closed at its end."""

    def __init__(self, told: Callable[[int], None]) -> None:
        """told: called with the number of bytes of every block that was read."""
        self._told = told
        self._files: OrderedDict[tuple[str, str], _Open] = OrderedDict()
        self._buffers = (np.empty(BLOCK, np.uint8), np.empty(BLOCK, np.uint8))

    def __enter__(self) -> Blocks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            os.close(file.descriptor)
        self._files.clear()

    def equal(self, left: Bytes, right: Bytes) -> bool:
        """Whether both are the same bytes. What lies in one place of one file is so without being read.

        Raises CheckpointError, naming leaf and file, for bytes that are not there.
        """
        places = self._place(left), self._place(right)
        if left.length != right.length:
            return False
        if places[0] is not None and places[0] == places[1]:
            self._told(left.length + right.length)
            return True
        pairs = zip(self._read(left, 0), self._read(right, 1), strict=True)
        return all(_same(one, two) for one, two in pairs)

    def each(self, wanted: Bytes) -> Iterator[np.ndarray]:
        """The bytes, uint8, block by block. A block is overwritten by the next one."""
        self._place(wanted)
        return self._read(wanted, 0)

    def _place(self, wanted: Bytes) -> tuple[int, int, int] | None:
        """Device, inode and offset of bytes in a file, which was seen to be long enough."""
        value = wanted.value
        if isinstance(value, Inline):
            return None
        file, end = self._file(wanted), value.offset + value.length
        if file.size < end:
            raise CheckpointError(
                f"{wanted.leaf}: {wanted.folder / value.file} ends at byte {file.size}, the leaf's bytes are "
                f"{value.offset} to {end}: the file is cut short; restore it or take another step"
            )
        return file.device, file.inode, value.offset

    def _file(self, wanted: Bytes) -> _Open:
        assert not isinstance(wanted.value, Inline)
        key = os.fspath(wanted.folder), wanted.value.file
        found = self._files.get(key)
        if found is None:
            path = wanted.folder / wanted.value.file
            if not path.resolve().is_relative_to(wanted.folder.resolve()):
                raise CheckpointError(f"{wanted.leaf}: {path} leads out of the checkpoint: copy the file there")
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except OSError as problem:
                raise CheckpointError(
                    f"{wanted.leaf}: {path}, where its bytes lie, cannot be opened ({problem.strerror}): "
                    "restore the file or take another step"
                ) from problem
            state = os.fstat(descriptor)
            found = self._files[key] = _Open(descriptor, state.st_dev, state.st_ino, state.st_size)
            if len(self._files) > MOST_FILES:
                os.close(self._files.popitem(last=False)[1].descriptor)
        self._files.move_to_end(key)
        return found

    def _read(self, wanted: Bytes, which: int) -> Iterator[np.ndarray]:
        if isinstance(wanted.value, Inline):
            self._told(wanted.length)
            yield np.frombuffer(wanted.value.data, np.uint8)
            return
        start, end = wanted.value.offset, wanted.value.offset + wanted.value.length
        for at in range(start, end, BLOCK):
            part = self._buffers[which][: min(BLOCK, end - at)]
            self._fill(wanted, part, at)
            self._told(len(part))
            yield part

    def _fill(self, wanted: Bytes, part: np.ndarray, start: int) -> None:
        file, count, reason = self._file(wanted), 0, "it has become shorter"
        while count < len(part):
            try:
                read = os.preadv(file.descriptor, [part[count:]], start + count)
            except OSError as problem:
                read, reason = 0, str(problem.strerror)
            if not read:
                path = wanted.folder / wanted.value.file if isinstance(wanted.value, Extent) else wanted.folder
                raise CheckpointError(
                    f"{wanted.leaf}: {path} gives no bytes at {start + count} ({reason}): "
                    "restore the file or take another step"
                )
            count += read
