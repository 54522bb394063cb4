"""Whether two leaves are equal by their encoded bytes, without decoding them.

Equal bytes prove equal values where codec, dtype, shape and chunks are equal. Different bytes prove nothing: another
level of compression writes the same values otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from impl.checkpoint.blocks import Blocks, Bytes
from impl.checkpoint.decoding import Place
from impl.checkpoint.index import StoredArray, Value
from impl.checkpoint.leaf import Path, show
from impl.checkpoint.placed import Placed
from impl.checkpoint.sides import Side, complete

__all__ = ["Encoded"]

Fixed = tuple[tuple[int, int], ...]
_FORMAT = {"zarr2": ("compressor", "filters", "order"), "zarr3": ("codecs",)}


class Encoded:
    """Compares leaves of two sides by their encoded bytes; a stacked leaf that many layers come from is read once."""

    def __init__(self, left: Side, right: Side, blocks: Blocks) -> None:
        self._sides = (left, right)
        self._blocks = blocks
        self._differing: dict[tuple[Path, Path], frozenset[Place]] = {}

    def differing(self, left: Placed, right: Placed) -> frozenset[Place] | None:
        """Places of the chunks of two leaves of one shape that differ; none: the leaves are equal.

        None, where only decoding can tell. Raises CheckpointError, naming leaf and file, for bytes that are not there.
        """
        stored = [side.arrays.get(leaf.source) for side, leaf in zip(self._sides, (left, right), strict=True)]
        one, two = stored
        if one is None or two is None:
            return None
        complete(left.source, one)
        complete(right.source, two)
        if left.fixed == right.fixed and _format(one, ()) == _format(two, ()) and one.shape == two.shape:
            covered = {axis: index // one.chunk_shape[axis] for axis, index in left.fixed}
            places = self._wholes(left.source, right.source, one, two)
            here = (place for place in places if all(place[axis] == at for axis, at in covered.items()))
            return frozenset(_without(place, left.fixed) for place in here)
        if not (_alone(one, left.fixed) and _alone(two, right.fixed)):
            return None
        if _format(one, left.fixed) != _format(two, right.fixed):
            return None
        mine, other = _chunks(one, left.fixed), _chunks(two, right.fixed)
        return frozenset(self._unequal(left.source, right.source, mine, other))

    def _wholes(self, mine: Path, other: Path, one: StoredArray, two: StoredArray) -> Iterable[Place]:
        """Places of the chunks that differ between two stored leaves of one grid."""
        if (mine, other) not in self._differing:
            self._differing[mine, other] = frozenset(self._unequal(mine, other, one.chunks, two.chunks))
        return self._differing[mine, other]

    def _unequal(self, mine: Path, other: Path, one: Mapping[Place, Value], two: Mapping[Place, Value]) -> list[Place]:
        left, right = (side.location.items for side in self._sides)
        return [
            place
            for place, value in one.items()
            if not self._blocks.equal(
                Bytes(leaf=show(mine), folder=left, value=value),
                Bytes(leaf=show(other), folder=right, value=two[place]),
            )
        ]


def _alone(stored: StoredArray, fixed: Fixed) -> bool:
    """Whether each chunk holds one layer alone. Then its bytes are those of a chunk of the layer by itself."""
    return all(stored.chunk_shape[axis] == 1 for axis, _ in fixed)


def _chunks(stored: StoredArray, fixed: Fixed) -> dict[Place, Value]:
    wanted = dict(fixed)
    return {
        _without(place, fixed): value
        for place, value in stored.chunks.items()
        if all(place[axis] == index for axis, index in wanted.items())
    }


def _without(lengths: Iterable[int], fixed: Fixed) -> tuple[int, ...]:
    gone = {axis for axis, _ in fixed}
    return tuple(length for axis, length in enumerate(lengths) if axis not in gone)


def _format(stored: StoredArray, fixed: Fixed) -> str:
    """All that says how the bytes of a chunk are to be read, without the axes that are `fixed`."""
    read = {name: stored.metadata.get(name) for name in _FORMAT[stored.form]}
    if fixed:
        read = {name: _stripped(part, stored, fixed) for name, part in read.items()}
    chunk = _without(stored.chunk_shape, fixed)
    return json.dumps([stored.form, stored.dtype, chunk, read], sort_keys=True)


def _stripped(part: Any, stored: StoredArray, fixed: Fixed) -> Any:
    """Codecs with the fixed axes taken out of the inner chunks. Orders of axes are left, and so match no other rank."""
    if isinstance(part, list):
        return [_stripped(each, stored, fixed) for each in part]
    if not isinstance(part, dict):
        return part
    inner = part.get("chunk_shape")
    found = {name: _stripped(each, stored, fixed) for name, each in part.items() if name != "chunk_shape"}
    if isinstance(inner, list) and len(inner) == len(stored.shape):
        return found | {"chunk_shape": list(_without(inner, fixed))}
    return found | ({} if inner is None else {"chunk_shape": inner})
