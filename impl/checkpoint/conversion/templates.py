"""How an array that is not there yet will be stored: as its source is, or as Orbax would store it, without chunks."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from impl.checkpoint.leaves.origin import Origin, Stack, Stored
from impl.checkpoint.storage.chunks import can_change_axes, dtype_of_array, with_axis, without_axis
from impl.checkpoint.storage.index import StoredArray
from impl.checkpoint.storage.source import Source

__all__ = ["fresh", "template"]


def template(source: Source, origin: Origin) -> StoredArray:
    """How an array that has to be made anew is stored: as its source is, chunks without or with the layers' axis."""
    if isinstance(origin, Stored):
        return source.arrays[origin.name]
    whole = template(source, origin.of[0] if isinstance(origin, Stack) else origin.of)
    if isinstance(origin, Stack):
        found = with_axis(whole, origin.axis, len(origin.of))
    else:
        found = without_axis(whole, origin.axis)
    if can_change_axes(whole):
        return found
    dtype = dtype_of_array(whole)
    return fresh(whole.name, whole.form, found.shape, dtype, max(1, math.prod(found.shape) * dtype.itemsize))


def fresh(
    name: str, form: Literal["zarr2", "zarr3"], shape: tuple[int, ...], dtype: np.dtype, piece: int
) -> StoredArray:
    """An array in chunks of at most `piece` bytes, compressed as Orbax does it, that the source has no example of."""
    chunk = _chunk_within(shape, dtype.itemsize, piece)
    kind = dtype.str if dtype.kind in "biufc" and form == "zarr2" else dtype.name
    length: dict[str, Any] = {"shape": list(shape), "fill_value": None}
    if form == "zarr2":
        metadata = {**length, "chunks": list(chunk), "compressor": {"id": "zstd", "level": 1}, "dtype": kind}
        metadata |= {"dimension_separator": ".", "filters": None, "order": "C", "zarr_format": 2}
    else:
        codecs = [{"name": "bytes", "configuration": {"endian": "little"}}]
        codecs += [{"name": "zstd", "configuration": {"level": 3, "checksum": False}}]
        grid = {"name": "regular", "configuration": {"chunk_shape": list(chunk)}}
        metadata = {**length, "fill_value": 0, "chunk_grid": grid, "chunk_key_encoding": {"name": "default"}}
        metadata |= {"codecs": codecs, "data_type": kind, "node_type": "array", "zarr_format": 3}
    return StoredArray(name=name, form=form, shape=shape, chunk_shape=chunk, dtype=kind, metadata=metadata, chunks={})


def _chunk_within(shape: tuple[int, ...], itemsize: int, piece: int) -> tuple[int, ...]:
    """The shape of chunks of at most `piece` bytes, as far behind each other in C order as they can."""
    chunk = list(shape)
    for axis, length in enumerate(shape):
        below = math.prod(shape[axis + 1 :]) * itemsize
        chunk[axis] = max(1, min(length, piece // max(1, below)))
        if below <= piece:
            break
    return tuple(chunk)
