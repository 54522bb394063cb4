"""Folders of zarr arrays, version 2: what is there, from its metadata alone, and one array at a time.

A chunk without a file is read as the array's fill value. Where one is declared, writers leave such chunks out, which
cannot be told from a lost file and is counted; where none is, the file is missing.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import product
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.dtypes import dtype_name, dtype_named
from impl.checkpoint.storage.allocation import return_large_buffers

__all__ = ["FolderArray", "arrays_in", "open_array", "read_array"]

METADATA = ".zarray"


@dataclass(frozen=True, kw_only=True)
class FolderArray:
    """An array on disk. absent: chunks that have no file and are read as the fill value."""

    path: FilePath
    shape: tuple[int, ...]
    dtype: str
    absent: int


def arrays_in(folder: FilePath) -> dict[str, FolderArray]:
    """The arrays right below `folder` by name, in name order. Raises CheckpointError for one that cannot be read."""
    folder = FilePath(folder)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise CheckpointError(f"{folder}: expected a folder of arrays, found {found}: give the folder of one step")
    places = [child for child in sorted(folder.iterdir()) if (child / METADATA).is_file()]
    return {child.name: _stored(child) for child in places}


def _stored(place: FilePath) -> FolderArray:
    try:
        metadata = json.loads((place / METADATA).read_text())
        shape, chunks = tuple(metadata["shape"]), tuple(metadata["chunks"])
        dtype = dtype_name(dtype_named(metadata["dtype"]))
        if len(shape) != len(chunks) or metadata["zarr_format"] != 2 or min((*shape, *chunks), default=1) < 0:
            raise ValueError(f"shape {shape} in chunks {chunks}, format {metadata['zarr_format']}")
        counts = [math.ceil(length / chunk) for length, chunk in zip(shape, chunks, strict=True)]
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise CheckpointError(f"{place}: {METADATA} cannot be understood ({error}): copy the array again") from error
    separator = metadata.get("dimension_separator", ".")
    names = (separator.join(map(str, index)) or "0" for index in product(*map(range, counts)))
    absent = [name for name in names if not (place / name).is_file()]
    if absent and metadata.get("fill_value") is None:
        raise CheckpointError(f"{place}: chunk {absent[0]} is missing, one of {len(absent)}: copy the array again")
    return FolderArray(path=place, shape=shape, dtype=dtype, absent=len(absent))


def open_array(stored: FolderArray) -> Any:
    """The array as a TensorStore, at its stored dtype; nothing is read yet. Each chunk will be decoded once.

    Raises CheckpointError where it is none.
    """
    import tensorstore

    return_large_buffers()
    room = math.prod(stored.shape) * dtype_named(stored.dtype).itemsize
    context = tensorstore.Context({"cache_pool": {"total_bytes_limit": room}})
    spec: dict[str, Any] = {"driver": "zarr", "kvstore": {"driver": "file", "path": f"{stored.path}/"}}
    try:
        return tensorstore.open(spec, context=context, open=True, read=True).result()
    except Exception as error:  # TensorStore raises its own kinds
        raise _unreadable(stored, error) from error


def read_array(stored: FolderArray) -> np.ndarray:
    """The array in host memory, at its stored dtype. Raises CheckpointError where a chunk is damaged."""
    try:
        return np.asarray(open_array(stored).read().result())
    except (ValueError, OSError, OverflowError, RuntimeError) as error:
        raise _unreadable(stored, error) from error


def _unreadable(stored: FolderArray, error: Exception) -> CheckpointError:
    reason = str(error).strip().splitlines()[0][:300]
    return CheckpointError(f"{stored.path}: cannot be read ({reason}): copy the array again")
