"""Leaves of a checkpoint tree, and the four things that are done to them: measure, take a layer, stack, compare bytes.

A leaf is an array, a typed random key, or the description of one that was not read (`LeafSpec`); what is not an array
(None, an empty container, a string, a Python number) is carried as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from impl.checkpoint.leaves.dtypes import dtype_named
from impl.checkpoint.leaves.origin import Layer, Origin, Stack

__all__ = [
    "Empty",
    "KeyArray",
    "Leaf",
    "LeafSpec",
    "Leaves",
    "Path",
    "bytes_of",
    "dtype_of",
    "key_impl_of",
    "rank_of",
    "same_bytes",
    "shape_of",
    "show",
    "stack_leaves",
    "take_layer",
]

Path = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class KeyArray:
    """A typed PRNG key: raw words, uint32 (..., W), and the name of the generator that reads them, e.g. "rbg"."""

    words: np.ndarray
    impl: str


@dataclass(frozen=True, slots=True)
class LeafSpec:
    """What the metadata says of a leaf: stored shape, dtype by name, and the generator of a typed key ("" if none).

    origin: where its bytes come from, while a conversion is planned; no part of what the leaf is.
    """

    shape: tuple[int, ...]
    dtype: str
    impl: str = ""
    origin: Origin | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Empty:
    """A dict or a list with nothing in it: Orbax stores those, so they are carried."""

    kind: Literal["dict", "list"]


Leaf = np.ndarray | KeyArray | LeafSpec | Empty | str | bool | int | float | None
Leaves = Mapping[Path, Leaf]


def show(path: Path) -> str:
    """`path` as one readable name: its parts joined by "/"."""
    return "/".join(path)


def shape_of(leaf: Leaf) -> tuple[int, ...]:
    """Stored shape; () for what is not an array. A typed key counts its words as the last axis."""
    if isinstance(leaf, KeyArray):
        return leaf.words.shape
    return leaf.shape if isinstance(leaf, np.ndarray | LeafSpec) else ()


def rank_of(leaf: Leaf) -> int:
    """Number of stored axes."""
    return len(shape_of(leaf))


def key_impl_of(leaf: Leaf) -> str:
    """Name of the generator of a typed key, "" for every other leaf."""
    return leaf.impl if isinstance(leaf, KeyArray | LeafSpec) else ""


def dtype_of(leaf: Leaf) -> str:
    """Name of the dtype: "float32", "key<rbg>" for a typed key, the Python type of what is not an array."""
    if key_impl_of(leaf):
        return f"key<{key_impl_of(leaf)}>"
    if isinstance(leaf, np.ndarray | LeafSpec):
        return str(leaf.dtype)
    return f"empty {leaf.kind}" if isinstance(leaf, Empty) else type(leaf).__name__


def bytes_of(leaf: Leaf) -> int:
    """Bytes of the array in memory, uncompressed; 0 for what is not an array."""
    if isinstance(leaf, KeyArray):
        return leaf.words.nbytes
    if isinstance(leaf, np.ndarray):
        return leaf.nbytes
    if not isinstance(leaf, LeafSpec) or leaf.dtype == "str":
        return 0
    return math.prod(leaf.shape) * dtype_named("uint32" if leaf.impl else leaf.dtype).itemsize


def take_layer(leaf: Leaf, index: int, axis: int) -> Leaf:
    """Layer `index` of a leaf stacked at `axis`, without that axis. What is not an array belongs to every layer."""
    if isinstance(leaf, KeyArray):
        return KeyArray(np.asarray(np.take(leaf.words, index, axis=axis), order="C"), leaf.impl)
    if isinstance(leaf, np.ndarray):
        return np.asarray(np.take(leaf, index, axis=axis), order="C")
    if isinstance(leaf, LeafSpec):
        origin = Layer(leaf.origin, index, axis) if leaf.origin else None
        return LeafSpec(leaf.shape[:axis] + leaf.shape[axis + 1 :], leaf.dtype, leaf.impl, origin)
    return leaf


def stack_leaves(leaves: Sequence[Leaf], axis: int) -> Leaf:
    """One leaf with the layers of `leaves` along a new `axis`. All must have one shape and dtype (see layers.stack)."""
    first = leaves[0]
    if isinstance(first, KeyArray):
        return KeyArray(np.stack([leaf.words for leaf in leaves if isinstance(leaf, KeyArray)], axis), first.impl)
    if isinstance(first, np.ndarray):
        return np.stack([leaf for leaf in leaves if isinstance(leaf, np.ndarray)], axis)
    if isinstance(first, LeafSpec):
        origins = tuple(leaf.origin for leaf in leaves if isinstance(leaf, LeafSpec) and leaf.origin)
        origin = Stack(origins, axis) if len(origins) == len(leaves) else None
        return LeafSpec((*first.shape[:axis], len(leaves), *first.shape[axis:]), first.dtype, first.impl, origin)
    return first


def same_bytes(left: Leaf, right: Leaf) -> bool:
    """Whether two leaves have one kind, shape and dtype, and the same bytes (so 0.0 and -0.0 differ)."""
    if (dtype_of(left), shape_of(left)) != (dtype_of(right), shape_of(right)):
        return False
    if isinstance(left, KeyArray) and isinstance(right, KeyArray):
        return bool(np.array_equal(left.words, right.words))
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return left.tobytes() == right.tobytes()
    return type(left) is type(right) and left == right
