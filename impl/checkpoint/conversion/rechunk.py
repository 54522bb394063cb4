"""Chunks made anew, for layers that lie together in one chunk: one leaf, and of plain ones one block, at a time."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath

import numpy as np

from impl.checkpoint.conversion.plan import Rewrite
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.origin import Layer, Stored, stored_names
from impl.checkpoint.storage.chunks import dtype_of_array, is_plain, value_length
from impl.checkpoint.storage.flushing import Flusher
from impl.checkpoint.storage.index import Extent, Inline, StoredArray, Value
from impl.checkpoint.storage.index_writer import MAX_INLINE
from impl.checkpoint.storage.source import Source, read_bytes
from impl.checkpoint.storage.values import Reader, encoded, whole_of

__all__ = ["DataFiles", "make_chunks"]

FOLDER = "ocdbt.process_0/d"
FILE_BYTES = 2 << 30  # a data file is closed when it has this many; Orbax's choice
BLOCK = 4 << 20


@dataclass
class DataFiles:
    """Data files of a store at `folder` that are being written. paths: those begun, the last one is open."""

    folder: FilePath
    paths: list[FilePath] = field(default_factory=list)
    _handle: int = -1
    _end: int = 0
    _flusher: Flusher | None = None

    def reserve(self, length: int) -> Extent:
        """Room for `length` bytes, to be filled with `fill`."""
        if self._handle < 0 or self._end + length > max(FILE_BYTES, length):
            self.close()
            path = self.folder / FOLDER / uuid.uuid4().hex
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle, self._end = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), 0
            self._flusher = Flusher(self._handle)
            self.paths.append(path)
        place = Extent(self.paths[-1].relative_to(self.folder).as_posix(), self._end, length)
        self._end += length
        return place

    def fill(self, offset: int, data: memoryview | bytes) -> None:
        """Writes `data` at `offset` of the file that the last reserved room lies in."""
        rest = memoryview(data).cast("B")
        while rest:
            written = os.pwrite(self._handle, rest, offset)
            rest, offset = rest[written:], offset + written
            if self._flusher:
                self._flusher.wrote(written)

    def put(self, data: bytes) -> Value:
        """`data` as a value: in the index where it is small, else in the open file."""
        if len(data) <= MAX_INLINE:
            return Inline(data)
        place = self.reserve(len(data))
        self.fill(place.offset, data)
        return place

    def close(self) -> None:
        """Waits until the open file is on the disk."""
        if self._flusher:
            try:
                self._flusher.finish()
            finally:
                os.close(self._handle)
                self._handle, self._flusher = -1, None


def make_chunks(
    source: Source, rewritten: Mapping[str, Rewrite], out: DataFiles, watch: Callable[[int], None]
) -> Iterator[StoredArray]:
    """The arrays of `rewritten` with chunks that were written to `out`. watch: told of bytes of values as they go."""
    groups: dict[tuple[str, ...], list[Rewrite]] = {}
    for rewrite in rewritten.values():
        groups.setdefault(tuple(stored_names(rewrite.origin)), []).append(rewrite)
    for names, group in groups.items():
        whole = source.arrays[names[0]]
        if all(_is_cut(source, rewrite) for rewrite in group):
            yield from _cut(source, whole, group, out, watch)
            continue
        reader = Reader(source.items, room=math.prod(whole.chunk_shape) * dtype_of_array(whole).itemsize + BLOCK)
        for rewrite in group:
            values = reader.read(source, rewrite.origin)
            chunks = {place: out.put(data) for place, data in encoded(rewrite.array, whole_of(values))}
            watch(values.nbytes)
            yield replace(rewrite.array, chunks=chunks)


def _is_cut(source: Source, rewrite: Rewrite) -> bool:
    """Whether the leaf is one layer of a plain array, stored plainly: then bytes are copied and nothing is decoded."""
    origin = rewrite.origin
    if not isinstance(origin, Layer) or not isinstance(origin.of, Stored):
        return False
    return is_plain(source.arrays[origin.of.name]) and is_plain(rewrite.array)


def _cut(
    source: Source, whole: StoredArray, group: list[Rewrite], out: DataFiles, watch: Callable[[int], None]
) -> Iterator[StoredArray]:
    """Layers of a plain array: every chunk is read once, block by block, and dealt out to the layers it holds."""
    chunks: list[dict[tuple[int, ...], Value]] = [{} for _ in group]
    origins = [rewrite.origin for rewrite in group]
    for place, value in whole.chunks.items():
        held = []
        for index, origin in enumerate(origins):
            assert isinstance(origin, Layer)
            chunk, layer = divmod(origin.index, whole.chunk_shape[origin.axis])
            if place[origin.axis] == chunk:
                held.append((index, origin.axis, layer))
        for index, axis, found in _dealt(source, whole, value, held, out):
            chunks[index][place[:axis] + place[axis + 1 :]] = found
        watch(value_length(value))
    for rewrite, made in zip(group, chunks, strict=True):
        yield replace(rewrite.array, chunks=made)


def _dealt(
    source: Source, whole: StoredArray, value: Value, held: list[tuple[int, int, int]], out: DataFiles
) -> Iterator[tuple[int, int, Value]]:
    """(index, axis, chunk) for each of `held`, (index, axis, layer within the chunk), cut from one encoded chunk."""
    if not held:
        return
    axis, itemsize = held[0][1], dtype_of_array(whole).itemsize
    rows, layers = math.prod(whole.chunk_shape[:axis]), whole.chunk_shape[axis]
    width = math.prod(whole.chunk_shape[axis + 1 :]) * itemsize
    if isinstance(value, Inline) or rows * width <= MAX_INLINE:
        block = np.frombuffer(read_bytes(source.items, value), np.uint8).reshape(rows, layers, width)
        for index, _, layer in held:
            yield index, axis, out.put(np.ascontiguousarray(block[:, layer]).tobytes())
        return
    size = rows * width
    start = out.reserve(size * len(held))
    slots = [Extent(start.file, start.offset + at * size, size) for at in range(len(held))]
    step = max(1, BLOCK // (layers * width))
    buffer = np.empty((min(step, rows), layers, width), np.uint8)
    cut = np.empty((min(step, rows), width), np.uint8)
    handle = os.open(source.items / value.file, os.O_RDONLY)
    try:
        for row in range(0, rows, step):
            count = min(step, rows - row)
            _read_into(handle, buffer[:count], value.offset + row * layers * width, source.items / value.file)
            for slot, (_, _, layer) in zip(slots, held, strict=True):
                np.copyto(cut[:count], buffer[:count, layer])
                out.fill(slot.offset + row * width, cut[:count].data)
    finally:
        os.close(handle)
    for slot, (index, _, _) in zip(slots, held, strict=True):
        yield index, axis, slot


def _read_into(handle: int, buffer: np.ndarray, offset: int, file: FilePath) -> None:
    rest = memoryview(buffer).cast("B")
    while rest:
        count = os.preadv(handle, [rest], offset)
        if not count:
            raise CheckpointError(f"{file}: ends at byte {offset}, more was expected: restore the file")
        rest, offset = rest[count:], offset + count
