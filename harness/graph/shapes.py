"""Rewrites of reshapes, broadcasts, transposes and concatenations. A rule gives the other form, or None: not here."""

from __future__ import annotations

import math

from harness.graph.attributes import Splat
from harness.graph.nodes import CONSTANT, Form, Graph, Key, Type

__all__ = [
    "broadcast",
    "broadcast_twice",
    "concatenate_twice",
    "nothing_repeated",
    "reshape_twice",
    "reshaped_scalar",
    "same_type",
    "splat",
    "transpose_twice",
    "unit_axes",
]

_BROADCAST, _RESHAPE = "stablehlo.broadcast_in_dim", "stablehlo.reshape"


def same_type(graph: Graph, key: Key, operands: tuple[int, ...]) -> int | None:
    return operands[0] if graph.keys[operands[0]].type == key.type else None


def reshape_twice(graph: Graph, key: Key, operands: tuple[int, ...]) -> Form | None:
    below = operands[0]
    return (key, graph.operands[below]) if graph.keys[below].op == _RESHAPE else None


def reshaped_scalar(graph: Graph, key: Key, operands: tuple[int, ...]) -> Form | None:
    """A reshape of a scalar's broadcast is the scalar's broadcast."""
    below = operands[0]
    if graph.keys[below].op != _BROADCAST or graph.keys[graph.operands[below][0]].type.shape != ():
        return None
    return broadcast(key.type, ()), graph.operands[below]


def splat(graph: Graph, key: Key, operands: tuple[int, ...]) -> Form | None:
    """A constant of equal elements is the broadcast of a scalar constant."""
    if key.type.shape in ((), (-1,)) or not isinstance(key.attribute("value"), Splat):
        return None
    scalar = graph.node(Key(CONSTANT, key.attributes, Type((), key.type.element)), (), None)
    return broadcast(key.type, ()), (scalar,)


def unit_axes(graph: Graph, key: Key, operands: tuple[int, ...]) -> Form | None:
    """What is broadcast loses its axes of size 1 first."""
    type, kept = graph.keys[operands[0]].type, _dimensions(key)
    if 1 not in type.shape:
        return None
    narrow = Type(tuple(size for size in type.shape if size != 1), type.element)
    axes = tuple(axis for axis, size in zip(kept, type.shape, strict=True) if size != 1)
    return broadcast(key.type, axes), ((Key(_RESHAPE, (), narrow), operands),)


def nothing_repeated(graph: Graph, key: Key, operands: tuple[int, ...]) -> Form | None:
    """A broadcast that only adds axes of size 1, and keeps the order of the others, is a reshape."""
    axes = _dimensions(key)
    same = math.prod(graph.keys[operands[0]].type.shape) == math.prod(key.type.shape)
    return (Key(_RESHAPE, (), key.type), operands) if same and axes == tuple(sorted(axes)) else None


def broadcast_twice(graph: Graph, key: Key, operands: tuple[int, ...]) -> Form | None:
    below = operands[0]
    if graph.keys[below].op != _BROADCAST:
        return None
    outer = _dimensions(key)
    axes = tuple(outer[axis] for axis in _dimensions(graph.keys[below]))
    return broadcast(key.type, axes), graph.operands[below]


def transpose_twice(graph: Graph, key: Key, operands: tuple[int, ...]) -> Form | None:
    below = graph.keys[operands[0]]
    if below.op != key.op:
        return None
    inner, outer = below.attribute("permutation"), key.attribute("permutation")
    if not isinstance(inner, tuple) or not isinstance(outer, tuple):
        return None
    both = tuple(inner[axis] for axis in outer)
    return Key(key.op, (("permutation", both),), key.type), graph.operands[operands[0]]


def concatenate_twice(graph: Graph, key: Key, operands: tuple[int, ...]) -> Form | None:
    """What was put side by side before is put side by side at once."""
    inner = [graph.keys[o].op == key.op and graph.keys[o].attributes == key.attributes for o in operands]
    if not any(inner):
        return None
    parts = [graph.operands[o] if one else (o,) for o, one in zip(operands, inner, strict=True)]
    return key, tuple(part for group in parts for part in group)


def broadcast(type: Type, axes: tuple[int, ...]) -> Key:
    """The key of a broadcast to `type` whose operand's axes become `axes`."""
    return Key(_BROADCAST, (("broadcast_dimensions", axes),), type)


def _dimensions(key: Key) -> tuple[int, ...]:
    axes = key.attribute("broadcast_dimensions")
    return axes if isinstance(axes, tuple) else ()
