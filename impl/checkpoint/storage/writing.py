"""A tree written aside, read back and compared byte for byte before it gets its name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.leaf import bytes_of, same_bytes, show
from impl.checkpoint.leaves.tree import Flat, flatten, nest
from impl.checkpoint.storage.location import Location, staged
from impl.checkpoint.storage.whole_trees import read_arrays, write_flat

__all__ = ["refuse_inside", "size_of", "write_checked"]


def refuse_inside(source: FilePath, target: FilePath) -> None:
    """Raises CheckpointError for a target inside the source, which is only read."""
    if FilePath(target).absolute().is_relative_to(FilePath(source).absolute()):
        raise CheckpointError(
            f"{target}: lies inside the source {source}, which is only read: give a folder outside it"
        )


def write_checked(target: FilePath, relative: FilePath, flat: Flat, custom_metadata: Mapping[str, Any]) -> None:
    """Writes `flat` to `target`/`relative` ("." for `target` itself). Raises CheckpointError; then nothing is left."""
    with staged(FilePath(target)) as stage:
        write_flat(stage, relative, flat, custom_metadata)
        items = stage / relative
        here = FilePath(".")
        found = read_arrays(Location(source=items, items=items, relative=here, custom_metadata={}, step={})).leaves
        wanted = flatten(nest(flat)).leaves  # gaps in lists filled, as the writer fills them
        for path in sorted({*found, *wanted}):
            if path not in found or path not in wanted or not same_bytes(found[path], wanted[path]):
                raise CheckpointError(f"{show(path)}: read back, it is not what was written: check the disk and repeat")


def size_of(flat: Flat) -> int:
    """Bytes of all arrays, uncompressed."""
    return sum(bytes_of(leaf) for leaf in flat.leaves.values())
