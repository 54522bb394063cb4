"""Values of stored arrays, decoded and encoded by TensorStore: what an index entry alone cannot do."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.origin import Layer, Origin, Stored, show_origin
from impl.checkpoint.storage.allocation import return_large_buffers
from impl.checkpoint.storage.chunks import chunk_key, dtype_of_array, grid_of
from impl.checkpoint.storage.index import StoredArray, is_indexed
from impl.checkpoint.storage.source import Source

__all__ = ["Part", "Reader", "Values", "encoded", "parts_of", "read_part", "whole_of"]

Part = tuple[slice, ...]
"""A box of an array: first and behind last along each axis."""

Values = Callable[[Part], np.ndarray]
"""Gives the values of a part of an array."""


class Reader:
    """Reads arrays of one checkpoint. A decoded chunk is kept until others need its room: layers are cut from it."""

    def __init__(self, items: FilePath, room: int):
        """room: bytes of decoded chunks to keep."""
        import tensorstore

        return_large_buffers()
        self._items = FilePath(items).absolute()
        self._context = tensorstore.Context({"cache_pool": {"total_bytes_limit": room}})
        self._indexed = is_indexed(self._items)

    def open(self, array: StoredArray) -> Any:
        """The array called `array.name` as a TensorStore; nothing of it is read yet."""
        import tensorstore

        base = {"driver": "file", "path": f"{self._items}/"}
        store = {"driver": "ocdbt", "base": base, "path": f"{array.name}/"}
        if not self._indexed:
            store = {"driver": "file", "path": f"{self._items}/{array.name}/"}
        driver = "zarr" if array.form == "zarr2" else "zarr3"
        spec = {"driver": driver, "kvstore": store, "recheck_cached_data": "open"}
        return tensorstore.open(spec, context=self._context, read=True, open=True).result()

    def read(self, source: Source, origin: Origin) -> np.ndarray:
        """Values of `origin`. Raises CheckpointError, naming it, when they cannot be read."""
        with _reading(show_origin(origin)):
            return self._read(source, origin)

    def part(self, source: Source, origin: Origin, part: Part) -> np.ndarray:
        """A part of the values of `origin`. Raises CheckpointError, naming it, when they cannot be read."""
        return read_part(lambda name: self.open(source.arrays[name]), origin, part)

    def _read(self, source: Source, origin: Origin) -> np.ndarray:
        if isinstance(origin, Stored):
            return np.asarray(self.open(source.arrays[origin.name]).read().result())
        if isinstance(origin, Layer):
            if isinstance(origin.of, Stored):
                found = self.open(source.arrays[origin.of.name])
                return np.asarray(found[(slice(None),) * origin.axis + (origin.index,)].read().result())
            return np.take(self._read(source, origin.of), origin.index, axis=origin.axis)
        first = self._read(source, origin.of[0])
        shape = (*first.shape[: origin.axis], len(origin.of), *first.shape[origin.axis :])
        out = np.empty(shape, first.dtype)
        for index, part in enumerate(origin.of):
            layer = self._read(source, part) if index else first
            out[(slice(None),) * origin.axis + (index,)] = layer
        return out


def read_part(opened: Callable[[str], Any], origin: Origin, part: Part) -> np.ndarray:
    """A part of the values of `origin`; `opened` gives the TensorStore of a stored array by its name.

    Raises CheckpointError, naming the origin, when they cannot be read.
    """
    with _reading(show_origin(origin)):
        return _part(opened, origin, part)


def _part(opened: Callable[[str], Any], origin: Origin, part: Part) -> np.ndarray:
    if isinstance(origin, Stored):
        return np.asarray(opened(origin.name)[part].read().result())
    axis = origin.axis
    if isinstance(origin, Layer):
        one = slice(origin.index, origin.index + 1)
        return np.squeeze(_part(opened, origin.of, (*part[:axis], one, *part[axis:])), axis)
    rest = (*part[:axis], *part[axis + 1 :])
    return np.stack([_part(opened, each, rest) for each in origin.of[part[axis]]], axis)


@contextlib.contextmanager
def _reading(name: str) -> Iterator[None]:
    """For a block in which the files of `name` may turn out to be damaged."""
    try:
        yield
    except CheckpointError:
        raise
    except (ValueError, OSError, OverflowError, RuntimeError) as problem:
        reason = str(problem).strip().splitlines()[0][:300]
        raise CheckpointError(f"{name}: cannot be read ({reason}): restore the files or take another step") from problem


def whole_of(values: np.ndarray) -> Values:
    """Parts of an array that is in memory."""
    return lambda part: values[part]


def parts_of(array: StoredArray) -> Iterator[tuple[tuple[int, ...], Part]]:
    """The place of each chunk of the array, and the part of it that the chunk holds."""
    for place in itertools.product(*map(range, grid_of(array))):
        starts = [at * length for at, length in zip(place, array.chunk_shape, strict=True)]
        ends = [min(at + length, end) for at, length, end in zip(starts, array.chunk_shape, array.shape, strict=True)]
        yield place, tuple(map(slice, starts, ends))


def encoded(array: StoredArray, values: Values) -> Iterator[tuple[tuple[int, ...], bytes]]:
    """The chunks of `array`, described by its metadata, that hold `values`: (place, encoded bytes), one at a time."""
    import tensorstore

    context = tensorstore.Context({"cache_pool": {"total_bytes_limit": 0}})
    memory = tensorstore.KvStore.open("memory://", context=context).result()
    driver = "zarr" if array.form == "zarr2" else "zarr3"
    spec: dict[str, Any] = {"driver": driver, "kvstore": f"memory://{array.name}/", "metadata": dict(array.metadata)}
    spec["store_data_equal_to_fill_value"] = True
    out = tensorstore.open(spec, context=context, create=True, open=True).result()
    for place, part in parts_of(array):
        out[part].write(np.asarray(values(part), dtype_of_array(array))).result()
        key = chunk_key(array, place)
        yield place, memory[key]
        del memory[key]
