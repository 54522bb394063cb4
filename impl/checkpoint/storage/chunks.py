"""Chunks of a stored array under another name, with an axis of length 1 more or less: their bytes stay as they are.

A chunk is the C-order (or F-order) bytes of its part of the array, encoded. An axis of length 1 changes no order, so
the chunk [E, M] of one layer is also the chunk [E, 1, M] of a stack of layers: only its key and the array's metadata
change. The same holds inside the shards of zarr 3.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.dtypes import dtype_name, dtype_named
from impl.checkpoint.storage.index import Extent, Inline, StoredArray, Value

__all__ = [
    "bytes_of_array",
    "can_change_axes",
    "check_chunks",
    "chunk_key",
    "dtype_of_array",
    "grid_of",
    "is_plain",
    "layer_of_array",
    "metadata_key",
    "metadata_value",
    "stack_of_arrays",
    "value_length",
    "with_axis",
    "without_axis",
]

LARGEST = 1 << 50
"""Bytes of an array that may be true. Chunks that hold the fill value alone may be absent, so no file shows a lie."""
_INDIFFERENT = {"bytes", "zstd", "gzip", "blosc", "crc32c", "sharding_indexed"}
"""Codecs of zarr 3 that see a chunk as bytes in C order, or as smaller chunks of such."""


def dtype_of_array(array: StoredArray) -> np.dtype:
    """The NumPy dtype of a stored array. Raises CheckpointError for one that NumPy and ml_dtypes do not have."""
    try:
        return dtype_named(array.dtype)
    except TypeError as problem:
        raise CheckpointError(f"{array.name}: the dtype {array.dtype!r} is not known: take another step") from problem


def bytes_of_array(array: StoredArray) -> int:
    """Bytes of the array's elements, decoded."""
    return math.prod(array.shape) * dtype_of_array(array).itemsize


def grid_of(array: StoredArray) -> tuple[int, ...]:
    """How many chunks the array has along each axis."""
    return tuple(-(-length // chunk) for length, chunk in zip(array.shape, array.chunk_shape, strict=True))


def metadata_key(array: StoredArray) -> str:
    """The key of the array's metadata in its store."""
    return f"{array.name}/{'.zarray' if array.form == 'zarr2' else 'zarr.json'}"


def metadata_value(array: StoredArray) -> Inline:
    """The array's metadata as its store holds it."""
    return Inline(json.dumps(array.metadata, separators=(",", ":")).encode())


def chunk_key(array: StoredArray, place: Sequence[int]) -> str:
    """The key of the chunk at `place`: "a.b/0.3" in zarr 2, "a.b/c/0/3" in zarr 3."""
    if array.form == "zarr2":
        return f"{array.name}/{'.'.join(map(str, place)) or '0'}"
    return "/".join([array.name, "c", *map(str, place)])


def value_length(value: Value) -> int:
    """Encoded bytes of a chunk."""
    return value.length if isinstance(value, Extent) else len(value.data)


def is_plain(array: StoredArray) -> bool:
    """Whether a chunk is nothing but its elements, in C order and this machine's byte order."""
    dtype = dtype_of_array(array)
    if dtype.byteorder == ">" or dtype_name(dtype) in ("int4", "uint4"):
        return False
    if array.form == "zarr2":
        read = array.metadata
        return not read.get("compressor") and not read.get("filters") and read.get("order", "C") == "C"
    codecs = array.metadata.get("codecs") or []
    little = {"endian": "little"}
    return len(codecs) == 1 and codecs[0]["name"] == "bytes" and codecs[0].get("configuration", little) == little


def can_change_axes(array: StoredArray) -> bool:
    """Whether an axis of length 1 may come or go without a byte of a chunk changing."""
    if array.form == "zarr2":
        return not array.metadata.get("filters")
    return _indifferent(array.metadata.get("codecs") or []) and not array.metadata.get("storage_transformers")


def _indifferent(codecs: Sequence[Any]) -> bool:
    inner = [codec.get("configuration", {}).get("codecs") or [] for codec in codecs]
    return all(codec["name"] in _INDIFFERENT for codec in codecs) and all(map(_indifferent, inner))


def layer_of_array(array: StoredArray, index: int, axis: int) -> StoredArray | None:
    """Layer `index` along `axis`; None where a chunk holds several and they do not lie behind each other in it."""
    together = array.chunk_shape[axis]
    if not can_change_axes(array):
        return None
    if together != 1 and not (is_plain(array) and math.prod(array.chunk_shape[:axis]) == 1):
        return None
    chunk, within = divmod(index, together)
    chunks = {_less(place, axis): value for place, value in array.chunks.items() if place[axis] == chunk}
    if together != 1:
        length = math.prod(array.chunk_shape[axis + 1 :]) * dtype_of_array(array).itemsize
        chunks = {place: _part(value, within * length, length) for place, value in chunks.items()}
    return replace(without_axis(array, axis), chunks=chunks)


def _part(value: Value, start: int, length: int) -> Value:
    """`length` bytes of a value from `start` on."""
    if isinstance(value, Extent):
        return Extent(value.file, value.offset + start, length)
    return Inline(value.data[start : start + length])


def stack_of_arrays(arrays: Sequence[StoredArray], axis: int) -> StoredArray | None:
    """The arrays as layers along a new `axis`; None where they are not stored alike."""
    first = arrays[0]
    if any(array.metadata != first.metadata for array in arrays) or not can_change_axes(first):
        return None
    chunks = {
        (*place[:axis], index, *place[axis:]): value
        for index, array in enumerate(arrays)
        for place, value in array.chunks.items()
    }
    return replace(with_axis(first, axis, len(arrays)), chunks=chunks)


def with_axis(array: StoredArray, axis: int, length: int) -> StoredArray:
    """The array with an axis of `length` more, in chunks of 1; its chunks are left out."""

    def put(values: Sequence[Any], value: Any) -> list[Any]:
        return [*values[:axis], value, *values[axis:]]

    shape, chunk_shape = tuple(put(array.shape, length)), tuple(put(array.chunk_shape, 1))
    return replace(array, shape=shape, chunk_shape=chunk_shape, chunks={}, metadata=_metadata(array, put, length))


def without_axis(array: StoredArray, axis: int) -> StoredArray:
    """The array without `axis`; its chunks are left out."""

    def cut(values: Sequence[Any], value: Any) -> list[Any]:
        return [*values[:axis], *values[axis + 1 :]]

    shape, chunk_shape = _less(array.shape, axis), _less(array.chunk_shape, axis)
    return replace(array, shape=shape, chunk_shape=chunk_shape, chunks={}, metadata=_metadata(array, cut, 0))


def _less(values: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return values[:axis] + values[axis + 1 :]


def _metadata(array: StoredArray, change: Any, length: int) -> Mapping[str, Any]:
    """The array's metadata with every shape in it changed: `change` puts a value at an axis or cuts one out."""
    read = dict(array.metadata)
    read["shape"] = change(read["shape"], length)
    if array.form == "zarr2":
        return {**read, "chunks": change(read["chunks"], 1)}
    grid = read["chunk_grid"]
    shape = change(grid["configuration"]["chunk_shape"], 1)
    read["chunk_grid"] = {**grid, "configuration": {**grid["configuration"], "chunk_shape": shape}}
    if read.get("dimension_names"):
        read["dimension_names"] = change(read["dimension_names"], None)
    return {**read, "codecs": [_codec(codec, change) for codec in read.get("codecs") or []]}


def _codec(codec: Mapping[str, Any], change: Any) -> Mapping[str, Any]:
    if codec["name"] != "sharding_indexed":
        return codec
    inner = codec["configuration"]
    shape = change(inner["chunk_shape"], 1)
    codecs = [_codec(each, change) for each in inner.get("codecs") or []]
    return {**codec, "configuration": {**inner, "chunk_shape": shape, "codecs": codecs}}


def _unravelled(number: int, grid: tuple[int, ...]) -> tuple[int, ...]:
    """The place of chunk `number` in a grid, the last axis first."""
    place = []
    for length in reversed(grid):
        number, at = divmod(number, length)
        place.append(at)
    return tuple(reversed(place))


def check_chunks(array: StoredArray, *, every: str) -> None:
    """Raises CheckpointError for a chunk outside the grid, of the wrong length, or missing, and for an absurd shape.

    every: "every" when chunks that hold the fill value alone are stored too, "some" when they may be absent.
    """
    grid = grid_of(array)
    outside = next((place for place in array.chunks if any(map(int.__ge__, place, grid))), None)
    if outside is not None:
        raise CheckpointError(
            f"{array.name}: a chunk at {outside}, its shape {array.shape} in chunks of {array.chunk_shape} has "
            f"{grid}: restore the files or take another step"
        )
    if len(array.chunks) < math.prod(grid) and every == "every":
        places = (_unravelled(number, grid) for number in range(len(array.chunks) + 1))
        lost = next(place for place in places if place not in array.chunks)
        raise CheckpointError(f"{array.name}: the chunk at {lost} is missing: restore the files or take another step")
    if (size := bytes_of_array(array)) > LARGEST:
        raise CheckpointError(
            f"{array.name}: shape {array.shape} of {array.dtype} is {size} bytes, at most {LARGEST} are believed: "
            "restore the files or take another step"
        )
    if is_plain(array):
        wanted = math.prod(array.chunk_shape) * dtype_of_array(array).itemsize
        wrong = next((place for place, value in array.chunks.items() if value_length(value) != wanted), None)
        if wrong is not None:
            raise CheckpointError(
                f"{array.name}: the chunk at {wrong} has {value_length(array.chunks[wrong])} bytes, shape "
                f"{array.chunk_shape} of {array.dtype} has {wanted}: restore the files or take another step"
            )
