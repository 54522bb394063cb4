"""Holds a written checkpoint against the plan it was written by, leaf by leaf."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path as FilePath

import numpy as np

from impl.checkpoint.conversion.plan import Plan
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.leaf import show
from impl.checkpoint.leaves.origin import Stored
from impl.checkpoint.storage.chunks import dtype_of_array
from impl.checkpoint.storage.orbax_reading import read_tree
from impl.checkpoint.storage.source import Source, open_source
from impl.checkpoint.storage.values import Reader, parts_of

__all__ = ["check_computed", "check_tree", "check_values"]

BLOCK = 16 << 20


def check_tree(plan: Plan, items: FilePath) -> None:
    """Raises CheckpointError, naming a leaf, when the tree noted at `items` is not the planned one."""
    written = read_tree(items)
    if (written.kinds, written.lists, written.generators) != (plan.tree.kinds, plan.tree.lists, plan.tree.generators):
        strange = sorted(path for path, _ in set(written.kinds.items()) ^ set(plan.tree.kinds.items()))
        where = show(strange[0]) if strange else "lists or typed keys"
        raise CheckpointError(f"{where}: written and read back, it is not the same tree: report this as a bug")


def check_values(source: Source, plan: Plan, items: FilePath, moved: Callable[[int], None]) -> int:
    """Reads every array at `items` and what it came from, and returns how many there are. moved: told of bytes read.

    Raises CheckpointError, naming the leaf, where shape, dtype or a byte differs.
    """
    written = open_source(items)
    chunk = max(math.prod(array.chunk_shape) * dtype_of_array(array).itemsize for array in source.arrays.values())
    here, there = Reader(source.items, room=chunk + BLOCK), Reader(items, room=0)
    for name in written.arrays:
        origin = plan.origins.get(name)
        wanted = here.read(source, origin) if origin else plan.literals[name][1]
        found = there.read(written, Stored(name))
        if (wanted.dtype, wanted.shape) != (found.dtype, found.shape) or not _same(wanted, found):
            raise CheckpointError(f"{name}: other bytes after reading back: check the disk and convert again")
        moved(found.nbytes)
    return len(written.arrays)


def check_computed(plan: Plan, items: FilePath, moved: Callable[[int], None]) -> int:
    """Computes every computed leaf at `items` once more, part by part, and returns how many there are.

    Raises CheckpointError, naming the leaf, where a byte differs. moved: told of bytes read.
    """
    written = open_source(items)
    for name, leaf in plan.computed.items():
        values, there = leaf.opens(), Reader(items, room=0)
        for _, part in parts_of(written.arrays[name]):
            wanted, found = values(part), there.part(written, Stored(name), part)
            if wanted.dtype != found.dtype or not _same(wanted, found):
                raise CheckpointError(f"{name}: other bytes after reading back: check the disk and begin again")
            moved(found.nbytes)
    return len(plan.computed)


def _same(left: np.ndarray, right: np.ndarray) -> bool:
    """Whether two arrays of one shape and dtype have the same bytes; compared in blocks, to need no more memory."""
    one, two = (np.ascontiguousarray(side).reshape(-1).view(np.uint8) for side in (left, right))
    return all(np.array_equal(one[at : at + BLOCK], two[at : at + BLOCK]) for at in range(0, one.size, BLOCK))
