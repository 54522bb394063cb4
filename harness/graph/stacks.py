"""Layers that a program takes and returns stacked, as the layers that they are: names are of layers, not of stacks."""

from __future__ import annotations

from harness.graph.nodes import INPUT, Graph, Key, Type
from harness.graph.rewriting import rewritten
from harness.recorder import Leaf

__all__ = ["apart", "check", "stacked"]


def check(what: str, named: int, found: int) -> None:
    """Raises ValueError if a program has not as many of something as there are names for it."""
    if named != found:
        raise ValueError(f"{named} names for {found} {what}: the recording does not belong to its program")


def stacked(graph: Graph, leaf: Leaf, type: Type) -> tuple[int, dict[str, int]]:
    """The node of an input of `type`, and name -> node of its layers: it is their concatenation if it is a stack."""
    if leaf.axis < 0:
        node = graph.node(Key(INPUT, (("name", leaf.names[0]),), type), (), None)
        return node, {leaf.names[0]: node}
    _check_axis(leaf, type)
    layer, slab = _without(type, leaf.axis), _with(type, leaf.axis, 1)
    layers = {name: graph.node(Key(INPUT, (("name", name),), layer), (), None) for name in leaf.names}
    parts = tuple(rewritten(graph, Key("stablehlo.reshape", (), slab), (node,), None) for node in layers.values())
    key = Key("stablehlo.concatenate", (("dimension", f"{leaf.axis} : i64"),), type)
    return rewritten(graph, key, parts, None), layers


def apart(graph: Graph, leaf: Leaf, node: int) -> dict[str, int]:
    """Name -> node of an output, of each of its layers if it is a stack."""
    if leaf.axis < 0:
        return {leaf.names[0]: node}
    type = graph.keys[node].type
    _check_axis(leaf, type)
    layer, slab = _without(type, leaf.axis), _with(type, leaf.axis, 1)
    found = {}
    for index, name in enumerate(leaf.names):
        start = tuple(index if axis == leaf.axis else 0 for axis in range(len(type.shape)))
        limit = _with(type, leaf.axis, index + 1).shape
        attributes = (("limit_indices", limit), ("start_indices", start), ("strides", (1,) * len(type.shape)))
        part = rewritten(graph, Key("stablehlo.slice", attributes, slab), (node,), None)
        found[name] = rewritten(graph, Key("stablehlo.reshape", (), layer), (part,), None)
    return found


def _check_axis(leaf: Leaf, type: Type) -> None:
    if leaf.axis >= len(type.shape):
        raise ValueError(f"{leaf.names[0]} is said to be stacked on axis {leaf.axis}, but it is {type}")
    check(f"layers of {leaf.names[0]}", len(leaf.names), type.shape[leaf.axis])


def _without(type: Type, axis: int) -> Type:
    return Type((*type.shape[:axis], *type.shape[axis + 1 :]), type.element)


def _with(type: Type, axis: int, size: int) -> Type:
    return Type((*type.shape[:axis], size, *type.shape[axis + 1 :]), type.element)
