"""A checkpoint opened for reading leaf by leaf: its tree from the metadata, its arrays where they lie."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from impl.checkpoint.blocks import length_of
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.index import StoredArray, is_indexed, read_index, stored_arrays
from impl.checkpoint.leaf import KeyArray, Leaf, LeafSpec, Path, show
from impl.checkpoint.placed import placed
from impl.checkpoint.store import Location, locate, read_arrays, read_specs
from impl.checkpoint.tree import Flat

__all__ = ["Box", "Side", "complete", "opened"]

Box = tuple[tuple[int, int], ...]
"""Where a piece of an array starts and stops, by axis."""
STRINGS = "_strings.json"


@dataclass(kw_only=True)
class Side:
    """One checkpoint. flat: its tree, arrays as Placed. arrays: by path, where they lie in an OCDBT store.

    A checkpoint of another kind has no `arrays`: all of it is loaded by Orbax when its first value is asked for. Of
    what was decoded only the last piece is kept.
    """

    location: Location
    flat: Flat
    arrays: Mapping[Path, StoredArray]
    kept: dict[tuple[Path, Box], np.ndarray] = field(default_factory=dict)

    def chunk_shape(self, path: Path) -> tuple[int, ...]:
        """Shape of the pieces in which the leaf at `path` is decoded; the whole leaf where it is not chunked."""
        if path in self.arrays:
            return self.arrays[path].chunk_shape
        leaf = self.flat.leaves[path]
        return tuple(max(1, length) for length in leaf.shape) if isinstance(leaf, LeafSpec) else ()

    def encoded_bytes(self, path: Path) -> int:
        """Bytes that the leaf at `path` takes on disk; 0 where it is not known."""
        return sum(length_of(value) for value in self.arrays[path].chunks.values()) if path in self.arrays else 0

    def text(self, path: Path) -> str:
        """The text of the string at `path`."""
        strings = self.location.items / STRINGS
        if strings.is_file():
            try:
                return str(json.loads(strings.read_text())[".".join(path)])
            except (ValueError, KeyError, TypeError) as problem:
                raise CheckpointError(
                    f"{show(path)}: {strings} does not hold its text: restore the file or take another step"
                ) from problem
        return str(self._loaded[path])

    def decoded(self, path: Path, box: Box) -> np.ndarray:
        """The part `box` of the leaf at `path`. Raises CheckpointError, naming leaf and files, where it cannot be."""
        if (path, box) not in self.kept:
            self.kept.clear()
            region = tuple(slice(start, stop) for start, stop in box)
            read = self._stored(path, region) if path in self.arrays else _array(self._loaded[path])[region]
            self.kept[path, box] = np.asarray(read)
        return self.kept[path, box]

    @cached_property
    def _loaded(self) -> Mapping[Path, Leaf]:
        return read_arrays(self.location).leaves

    @cached_property
    def _context(self) -> Any:
        import tensorstore

        # One context for all leaves, so that the index is read once; decoded chunks are not kept.
        return tensorstore.Context({"cache_pool": {"total_bytes_limit": 0}, "cache_pool#index": {}})

    def _stored(self, path: Path, region: tuple[slice, ...]) -> np.ndarray:
        import tensorstore

        stored, folder = self.arrays[path], self.location.items
        base = {"driver": "file", "path": f"{folder}/"}
        spec = {
            "driver": {"zarr2": "zarr", "zarr3": "zarr3"}[stored.form],
            "kvstore": {"driver": "ocdbt", "base": base, "path": f"{stored.name}/", "cache_pool": "cache_pool#index"},
            "fill_missing_data_reads": False,
        }
        try:
            array = tensorstore.open(spec, open=True, read=True, context=self._context).result()
            return np.asarray(array[region].read().result())
        except (ValueError, OSError) as problem:
            files = sorted({value.file for value in stored.chunks.values() if hasattr(value, "file")})
            reason = str(problem).strip().splitlines()[0][:300]
            raise CheckpointError(
                f"{show(path)}: cannot be decoded from {', '.join(files[:3]) or 'the index'} of {folder} ({reason}): "
                "restore the files or take another step"
            ) from problem


def opened(source: FilePath) -> Side:
    """The checkpoint at `source`. No array is read. Raises CheckpointError for one that is not readable."""
    location = locate(source)
    flat = placed(read_specs(location))
    if not is_indexed(location.items):
        return Side(location=location, flat=flat, arrays={})
    stored = stored_arrays(read_index(location.items))
    arrays = {}
    for path, leaf in flat.leaves.items():
        if isinstance(leaf, LeafSpec) and leaf.dtype != "str":
            name = ".".join(path)
            if name not in stored:
                raise CheckpointError(
                    f"{show(path)}: {location.items} names it and its store has no such array: take another step"
                )
            arrays[path] = stored[name]
    return Side(location=location, flat=flat, arrays=arrays)


def complete(path: Path, stored: StoredArray) -> None:
    """Raises CheckpointError where the store lacks a chunk of the leaf, or has one outside it."""
    grid = tuple(-(-length // chunk) for length, chunk in zip(stored.shape, stored.chunk_shape, strict=True))
    wanted = math.prod(grid)
    stray = [place for place in stored.chunks if any(at >= count for at, count in zip(place, grid, strict=True))]
    if len(stored.chunks) != wanted or stray:
        raise CheckpointError(
            f"{show(path)}: the store holds {len(stored.chunks)} chunks of it, expected {wanted} "
            f"({'x'.join(map(str, grid)) or 'one'}): restore the files or take another step"
        )


def _array(leaf: Leaf) -> np.ndarray:
    return leaf.words if isinstance(leaf, KeyArray) else np.asarray(leaf)
