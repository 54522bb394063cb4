"""Where the leaves of a planned comparison are stored, told from their origins after renaming and unstacking."""

from __future__ import annotations

from dataclasses import dataclass, replace

from impl.checkpoint.leaves.leaf import LeafSpec, Path, show
from impl.checkpoint.leaves.origin import Layer, Origin, Stored
from impl.checkpoint.leaves.tree import Flat

__all__ = ["Placed", "placed", "placing"]


@dataclass(frozen=True)
class Placed:
    """A leaf, or a layer of one: its shape, dtype by name, the path of the stored leaf, and (axis, index) of the layer
    in that, by axis."""

    shape: tuple[int, ...]
    dtype: str
    source: Path
    fixed: tuple[tuple[int, int], ...] = ()


def placed(flat: Flat) -> Flat:
    """`flat` with the origin of each described leaf set to its path in the tree."""
    leaves = {
        path: replace(leaf, origin=Stored(show(path))) if isinstance(leaf, LeafSpec) else leaf
        for path, leaf in flat.leaves.items()
    }
    return Flat(leaves=leaves, lists=flat.lists)


def placing(leaf: LeafSpec) -> Placed:
    """Where a leaf of a tree that came from `placed`, in whatever layout it is now, is stored."""
    name, fixed = _walked(leaf.origin, len(leaf.shape))
    return Placed(leaf.shape, leaf.dtype, tuple(name.split("/")), tuple(sorted(fixed)))


def _walked(origin: Origin | None, rank: int) -> tuple[str, list[tuple[int, int]]]:
    """Name of the stored leaf and the axes of it that are fixed, for something of `rank` axes."""
    if isinstance(origin, Stored):
        return origin.name, []
    if not isinstance(origin, Layer):
        raise TypeError(f"{origin!r} is no stored leaf and no layer of one: only those are compared")
    name, fixed = _walked(origin.of, rank + 1)
    gone = {axis for axis, _ in fixed}
    left = [axis for axis in range(rank + 1 + len(fixed)) if axis not in gone]
    return name, [*fixed, (left[origin.axis], origin.index)]
