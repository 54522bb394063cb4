"""Rewrites of slices and updates at known places: what was put together is taken apart again, exactly."""

from __future__ import annotations

from typing import NamedTuple

from harness.graph.folding import known
from harness.graph.nodes import Form, Graph, Key, Type

__all__ = [
    "slice_everything",
    "slice_of_concatenation",
    "slice_of_repeated",
    "slice_of_slice",
    "slice_of_transpose",
    "slice_of_update",
    "slice_where_known",
    "transpose_of_units",
    "update_everything",
    "update_where_known",
]

_SLICE, _UPDATE, _TRANSPOSE = "stablehlo.slice", "stablehlo.dynamic_update_slice", "stablehlo.transpose"
_RESHAPE, _BROADCAST = "stablehlo.reshape", "stablehlo.broadcast_in_dim"


class _Region(NamedTuple):
    """A box: its first index and its size on each axis."""

    start: tuple[int, ...]
    size: tuple[int, ...]

    @property
    def limit(self) -> tuple[int, ...]:
        return tuple(start + size for start, size in zip(self.start, self.size, strict=True))

    def inside(self, other: _Region) -> bool:
        return all(a >= b for a, b in zip(self.start, other.start, strict=True)) and all(
            a <= b for a, b in zip(self.limit, other.limit, strict=True)
        )

    def apart(self, other: _Region) -> bool:
        sides = zip(self.start, self.limit, other.start, other.limit, strict=True)
        return any(limit <= start or end <= begin for begin, limit, start, end in sides)

    def seen_from(self, origin: tuple[int, ...]) -> _Region:
        return _Region(tuple(a - b for a, b in zip(self.start, origin, strict=True)), self.size)


def slice_where_known(graph: Graph, key: Key, operands: tuple[int, ...]) -> Form | None:
    """A dynamic slice at a known place is a slice there, moved in as far as it would reach out."""
    start = _place(graph, graph.keys[operands[0]].type.shape, key.type.shape, operands[1:])
    return None if start is None else (_slice(_Region(start, key.type.shape), key.type), operands[:1])


def update_where_known(graph: Graph, key: Key, operands: tuple[int, ...]) -> Form | None:
    """A dynamic update at a known place is written with that place."""
    if len(operands) == 2:
        return None
    start = _place(graph, key.type.shape, graph.keys[operands[1]].type.shape, operands[2:])
    return None if start is None else (Key(_UPDATE, (("start_indices", start),), key.type), operands[:2])


def update_everything(graph: Graph, key: Key, operands: tuple[int, ...]) -> int | None:
    """An update of the whole leaves nothing of what was there."""
    return operands[1] if graph.keys[operands[1]].type == key.type else None


def slice_everything(graph: Graph, key: Key, operands: tuple[int, ...]) -> int | None:
    """A slice of the whole is the whole."""
    return operands[0] if _region(key) and graph.keys[operands[0]].type == key.type else None


def slice_of_slice(graph: Graph, key: Key, operands: tuple[int, ...]) -> Form | None:
    """Two slices are one."""
    below, outer = graph.keys[operands[0]], _region(key)
    inner = _region(below) if below.op == _SLICE else None
    if outer is None or inner is None:
        return None
    start = tuple(a + b for a, b in zip(inner.start, outer.start, strict=True))
    return _slice(_Region(start, outer.size), key.type), graph.operands[operands[0]]


def slice_of_concatenation(graph: Graph, key: Key, operands: tuple[int, ...]) -> Form | None:
    """A slice that lies within one of the parts that were put side by side is a slice of that part."""
    below, region = graph.keys[operands[0]], _region(key)
    if below.op != "stablehlo.concatenate" or region is None:
        return None
    axis, begin = int(str(below.attribute("dimension")).partition(" : ")[0]), 0
    for part in graph.operands[operands[0]]:
        origin = tuple(begin if at == axis else 0 for at in range(len(region.start)))
        if region.inside(_Region(origin, graph.keys[part].type.shape)):
            return _slice(region.seen_from(origin), key.type), (part,)
        begin += graph.keys[part].type.shape[axis]
    return None


def slice_of_update(graph: Graph, key: Key, operands: tuple[int, ...]) -> Form | None:
    """A slice of an update is of what was put in, or of what was there, if it lies in one of them altogether."""
    below, region = graph.keys[operands[0]], _region(key)
    start = below.attribute("start_indices")
    if below.op != _UPDATE or region is None or not isinstance(start, tuple):
        return None
    before, new = graph.operands[operands[0]]
    box = _Region(start, graph.keys[new].type.shape)
    if region.inside(box):
        return _slice(region.seen_from(start), key.type), (new,)
    return (key, (before,)) if region.apart(box) else None


def slice_of_repeated(graph: Graph, key: Key, operands: tuple[int, ...]) -> Form | None:
    """A slice of a scalar's broadcast is a broadcast of the scalar."""
    below = operands[0]
    if graph.keys[below].op != _BROADCAST or graph.keys[graph.operands[below][0]].type.shape != ():
        return None
    return Key(_BROADCAST, (("broadcast_dimensions", ()),), key.type), graph.operands[below]


def slice_of_transpose(graph: Graph, key: Key, operands: tuple[int, ...]) -> Form | None:
    """A slice of a transpose is the transpose of a slice."""
    below, region = graph.keys[operands[0]], _region(key)
    order = below.attribute("permutation")
    if below.op != _TRANSPOSE or region is None or not isinstance(order, tuple):
        return None
    back = [order.index(axis) for axis in range(len(order))]
    inner = _Region(tuple(region.start[at] for at in back), tuple(region.size[at] for at in back))
    sliced = _slice(inner, Type(inner.size, key.type.element)), graph.operands[operands[0]]
    return Key(_TRANSPOSE, below.attributes, key.type), (sliced,)


def transpose_of_units(graph: Graph, key: Key, operands: tuple[int, ...]) -> Form | None:
    """A transpose that moves nothing but axes of size 1 is a reshape."""
    shape, order = graph.keys[operands[0]].type.shape, key.attribute("permutation")
    if not isinstance(order, tuple) or -1 in shape:
        return None
    moved = [axis for axis in order if shape[axis] != 1]
    return (Key(_RESHAPE, (), key.type), operands) if moved == sorted(moved) else None


def _place(
    graph: Graph, whole: tuple[int, ...], part: tuple[int, ...], indices: tuple[int, ...]
) -> tuple[int, ...] | None:
    found = [known(graph, index) for index in indices]
    if any(index is None for index in found) or -1 in (*whole, *part):
        return None
    sizes = zip(found, whole, part, strict=True)
    return tuple(min(max(index or 0, 0), room - size) for index, room, size in sizes)


def _region(key: Key) -> _Region | None:
    """The box that a slice takes, None if it leaves elements out between."""
    start, limit, steps = (key.attribute(name) for name in ("start_indices", "limit_indices", "strides"))
    if not isinstance(start, tuple) or not isinstance(limit, tuple):
        return None
    if isinstance(steps, tuple) and set(steps) - {1}:
        return None
    return _Region(start, tuple(b - a for a, b in zip(start, limit, strict=True)))


def _slice(region: _Region, type: Type) -> Key:
    attributes = (
        ("limit_indices", region.limit),
        ("start_indices", region.start),
        ("strides", (1,) * len(region.start)),
    )
    return Key(_SLICE, attributes, type)
