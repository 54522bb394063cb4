"""Whether two leaves are equal by their encoded bytes, without decoding them.

Equal bytes prove equal values where codec, dtype, shape and chunks are equal. Different bytes prove nothing: another
level of compression writes the same values otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from impl.checkpoint.comparison.decoding import Place
from impl.checkpoint.leaves.leaf import Path, show
from impl.checkpoint.leaves.placed import Placed
from impl.checkpoint.storage.blocks import Blocks, Bytes
from impl.checkpoint.storage.chunks import layer_of_array
from impl.checkpoint.storage.index import StoredArray, Value
from impl.checkpoint.storage.sides import Side

__all__ = ["Encoded"]

Fixed = tuple[tuple[int, int], ...]
_FORMAT = {"zarr2": ("compressor", "filters", "order", "fill_value"), "zarr3": ("codecs", "fill_value")}


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
        one, two = (side.array(leaf.source) for side, leaf in zip(self._sides, (left, right), strict=True))
        if left.fixed == right.fixed and one.shape == two.shape and _format(one) == _format(two):
            covered = {axis: index // one.chunk_shape[axis] for axis, index in left.fixed}
            places = self._wholes(left.source, right.source, one, two)
            here = (place for place in places if all(place[axis] == at for axis, at in covered.items()))
            return frozenset(_without(place, left.fixed) for place in here)
        # A chunk that holds one layer alone has the bytes of a chunk of that layer by itself.
        mine, other = _layer(one, left.fixed), _layer(two, right.fixed)
        if mine is None or other is None or _format(mine) != _format(other):
            return None
        return frozenset(self._unequal(left.source, right.source, mine.chunks, other.chunks))

    def _wholes(self, mine: Path, other: Path, one: StoredArray, two: StoredArray) -> Iterable[Place]:
        """Places of the chunks that differ between two stored leaves of one grid."""
        if (mine, other) not in self._differing:
            self._differing[mine, other] = frozenset(self._unequal(mine, other, one.chunks, two.chunks))
        return self._differing[mine, other]

    def _unequal(self, mine: Path, other: Path, one: Mapping[Place, Value], two: Mapping[Place, Value]) -> list[Place]:
        left, right = (side.items for side in self._sides)
        names = show(mine), show(other)
        # A chunk that both stores leave out holds the fill value on both sides.
        alone = [place for place in {**one, **two} if place not in one or place not in two]
        return alone + [
            place
            for place, value in one.items()
            if place in two
            and not self._blocks.equal(
                Bytes(leaf=names[0], folder=left, value=value), Bytes(leaf=names[1], folder=right, value=two[place])
            )
        ]


def _layer(stored: StoredArray, fixed: Fixed) -> StoredArray | None:
    """The layer of a stored leaf as an array of its own; None where its bytes do not lie by themselves."""
    found: StoredArray | None = stored
    for axis, index in sorted(fixed, reverse=True):
        found = layer_of_array(found, index, axis) if found else None
    return found


def _without(place: Place, fixed: Fixed) -> Place:
    gone = {axis for axis, _ in fixed}
    return tuple(at for axis, at in enumerate(place) if axis not in gone)


def _format(stored: StoredArray) -> str:
    """All that says how the bytes of a chunk are to be read."""
    read = {name: stored.metadata.get(name) for name in _FORMAT[stored.form]}
    return json.dumps([stored.form, stored.dtype, stored.chunk_shape, read], sort_keys=True)
