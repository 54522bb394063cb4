"""A checkpoint opened for reading leaf by leaf: its tree from the metadata, its arrays where they lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path as FilePath

import numpy as np

from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.leaf import LeafSpec, Path, show
from impl.checkpoint.leaves.placed import Placed, placed, placing
from impl.checkpoint.leaves.tree import Flat
from impl.checkpoint.storage.chunks import value_length
from impl.checkpoint.storage.index import Extent, StoredArray
from impl.checkpoint.storage.location import locate
from impl.checkpoint.storage.source import Source, check_array, noted_source, open_source, specs_of
from impl.checkpoint.storage.values import Reader

__all__ = ["Box", "Side", "opened", "opened_as_noted", "opened_items"]

Box = tuple[tuple[int, int], ...]
"""Where a piece of an array starts and stops, by axis."""


@dataclass(kw_only=True)
class Side:
    """One checkpoint. flat: its tree, arrays as descriptions whose origin is their path. arrays: by path, where they
    lie in the store. Of what was decoded only the last piece is kept. seen: leaves whose chunks were counted."""

    items: FilePath
    source: Source
    flat: Flat
    arrays: Mapping[Path, StoredArray]
    kept: dict[tuple[Path, Box], np.ndarray] = field(default_factory=dict)
    seen: set[Path] = field(default_factory=set)

    def array(self, path: Path) -> StoredArray:
        """Where the leaf at `path` lies. Raises CheckpointError, naming it, where the store lacks chunks of it."""
        if path not in self.seen:
            check_array(self.arrays[path], self.source.tree)
            self.seen.add(path)
        return self.arrays[path]

    def whole(self, path: Path) -> Placed:
        """The leaf at `path`, as it is stored."""
        leaf = self.flat.leaves[path]
        assert isinstance(leaf, LeafSpec)
        return placing(leaf)

    def encoded_bytes(self, path: Path) -> int:
        """Bytes that the leaf at `path` takes on disk."""
        return sum(map(value_length, self.arrays[path].chunks.values()))

    def text(self, path: Path) -> str:
        """The text of the string at `path`."""
        return str(self.source.tree.strings[".".join(path)])

    def decoded(self, path: Path, box: Box) -> np.ndarray:
        """The part `box` of the leaf at `path`. Raises CheckpointError, naming leaf and files, where it cannot be."""
        if (path, box) not in self.kept:
            self.kept.clear()
            self.kept[path, box] = self._stored(path, tuple(slice(start, stop) for start, stop in box))
        return self.kept[path, box]

    @cached_property
    def _reader(self) -> Reader:
        return Reader(self.items, 0)

    def _stored(self, path: Path, region: tuple[slice, ...]) -> np.ndarray:
        stored = self.array(path)
        try:
            return np.asarray(self._reader.open(stored)[region].read().result())
        except (ValueError, OSError, OverflowError, RuntimeError) as problem:
            files = sorted({value.file for value in stored.chunks.values() if isinstance(value, Extent)})
            reason = str(problem).strip().splitlines()[0][:300]
            raise CheckpointError(
                f"{show(path)}: cannot be decoded from {', '.join(files[:3]) or 'the index'} of {self.items} "
                f"({reason}): restore the files or take another step"
            ) from problem


def opened(source: FilePath) -> Side:
    """The checkpoint at `source`. No array is read. Raises CheckpointError for one that is not readable."""
    return opened_items(locate(source).items)


def opened_items(items: FilePath) -> Side:
    """The same for the folder that holds the tree itself, finished or not."""
    return _side(open_source(items))


def opened_as_noted(source: FilePath) -> Side:
    """The same, though data files may be gone or cut: whoever reads a leaf that lies there is told."""
    return _side(noted_source(locate(source).items))


def _side(found: Source) -> Side:
    flat = placed(specs_of(found))
    arrays = {
        path: found.arrays[".".join(path)]
        for path, leaf in flat.leaves.items()
        if isinstance(leaf, LeafSpec) and leaf.dtype != "str"
    }
    return Side(items=found.items, source=found, flat=flat, arrays=arrays)
