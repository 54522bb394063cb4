"""Distances of leaves whose encoded bytes differ: decoded piece by piece, each stored chunk once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from impl.checkpoint.comparison.distance import Distance, Tolerance, distance_within, merged
from impl.checkpoint.leaves.leaf import Path
from impl.checkpoint.leaves.placed import Placed
from impl.checkpoint.storage.sides import Box, Side

__all__ = ["Pair", "Place", "decoded_distances", "part_of", "pieces"]

Place = tuple[int, ...]
"""A chunk's place in the grid of chunks."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One canonical leaf on both sides: part of the checkpoint, path in it, and where each side stores it.

    places: the chunks that differ, where both sides have the same ones; None: all of it is to be decoded.
    """

    part: str
    path: Path
    left: Placed
    right: Placed
    places: frozenset[Place] | None = None


def decoded_distances(
    pairs: Sequence[Pair], left: Side, right: Side, tolerance: Tolerance
) -> dict[tuple[str, Path], Distance]:
    """The distance of each pair, by part and path. Both leaves of a pair have one shape.

    Layers of one stacked leaf are walked together, piece by piece, so that a chunk that holds several of them is
    decoded once. In memory are a piece of each side and what its decoding needs.
    """
    found: dict[tuple[str, Path], list[Distance]] = {(pair.part, pair.path): [] for pair in pairs}
    for family in _families(pairs):
        walked: dict[Box, list[Pair]] = {}
        for pair in family:
            piece = _common_piece(pair, left, right)
            for box in pieces(pair.left.shape, piece):
                place = tuple(start // part for (start, _), part in zip(box, piece, strict=True))
                if pair.places is None or place in pair.places:
                    walked.setdefault(box, []).append(pair)
        for box, here in walked.items():
            origin = tuple(start for start, _ in box)
            for pair in here:
                one, two = part_of(left, pair.left, box), part_of(right, pair.right, box)
                if pair.part == "step":  # each dialect has a dtype of its own for the step
                    one, two = one.astype(np.int64), two.astype(np.int64)
                found[pair.part, pair.path].append(distance_within(one, two, tolerance, origin))
        left.kept.clear()
        right.kept.clear()
    return {name: merged(parts) for name, parts in found.items()}


def _families(pairs: Sequence[Pair]) -> Iterator[list[Pair]]:
    """Pairs whose layers come from one stacked leaf, in the order of the layers."""
    families: dict[tuple[str, Path], list[Pair]] = {}
    for pair in pairs:
        key = ("left", pair.left.source) if pair.left.fixed else ("right", pair.right.source)
        families.setdefault(key, []).append(pair)
    for family in families.values():
        yield sorted(family, key=lambda pair: (pair.left.fixed, pair.right.fixed))


def _common_piece(pair: Pair, left: Side, right: Side) -> tuple[int, ...]:
    """Shape of the smallest piece that is made of whole chunks on both sides."""
    one, two = _piece(left, pair.left), _piece(right, pair.right)
    each = zip(one, two, pair.left.shape, strict=True)
    return tuple(min(math.lcm(mine, other), max(length, 1)) for mine, other, length in each)


def _piece(side: Side, leaf: Placed) -> tuple[int, ...]:
    fixed = {axis for axis, _ in leaf.fixed}
    return tuple(length for axis, length in enumerate(side.arrays[leaf.source].chunk_shape) if axis not in fixed)


def pieces(shape: tuple[int, ...], piece: tuple[int, ...]) -> Iterator[Box]:
    """The boxes of shape `piece`, smaller at the ends, that fill an array, in C order."""
    starts = [range(0, length, part) for length, part in zip(shape, piece, strict=True)]
    for corner in itertools.product(*starts):
        each = zip(corner, piece, shape, strict=True)
        yield tuple((start, min(start + part, length)) for start, part, length in each)


def part_of(side: Side, leaf: Placed, box: Box) -> np.ndarray:
    """The part `box` of a leaf, or of a layer. Of the axis of layers a whole chunk is decoded, and kept by `side`."""
    stored, rest, wanted = side.arrays[leaf.source], iter(box), dict(leaf.fixed)
    chunk = stored.chunk_shape
    region: list[tuple[int, int]] = []
    taken: list[int | slice] = []
    for axis, length in enumerate(stored.shape):
        if axis in wanted:
            start = wanted[axis] // chunk[axis] * chunk[axis]
            region.append((start, min(start + chunk[axis], length)))
            taken.append(wanted[axis] - start)
        else:
            region.append(next(rest))
            taken.append(slice(None))
    return np.asarray(side.decoded(leaf.source, tuple(region))[tuple(taken)])
