"""Where two computations of one output first part: operations whose operands agree and whose results do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.graph.nodes import CONSTANT, INPUT, PHI, Graph
from harness.graph.places import place
from harness.graph.reading import Reading
from harness.graph.refine import begun, live
from harness.proof import Divergence, Origin

__all__ = ["divergences"]

_BROADCAST = "stablehlo.broadcast_in_dim"


MOST = 4
"""Origins that are told of one output."""


def divergences(graph: Graph, left: Reading, right: Reading, names: Sequence[str]) -> Mapping[str, Divergence]:
    """Output -> Divergence for each of `names`, which both have and which are not equal."""
    if not names:
        return {}
    roots = [reading.outputs[name] for reading in (left, right) for name in reading.outputs]
    classes = begun(graph, roots).classes
    sides = []
    for own, other in ((left, right), (right, left)):
        known = {classes[node] for node in live(graph, other.outputs.values())}
        below = _first_below(graph, live(graph, [own.outputs[name] for name in names]), classes, known)
        sides.append({name: tuple(_origin(graph, n) for n in below[own.outputs[name]][:MOST]) for name in names})
    return {name: Divergence(left=sides[0][name], right=sides[1][name]) for name in names}


def _first_below(graph: Graph, nodes: list[int], classes: list[int], known: set[int]) -> dict[int, tuple[int, ...]]:
    """Node -> the first nodes that it depends on, in order, that the other program lacks while it has their operands.

    What a loop carries is passed on to where it is carried from: hence several passes, until nothing is added.
    """
    found: dict[int, tuple[int, ...]] = {}
    while True:
        before = dict(found)
        for node in nodes:
            operands = [operand for operand in graph.operands[node] if operand >= 0]
            above = {origin for operand in operands for origin in found.get(operand, ())}
            if _is_origin(graph, node, classes, known):
                above.add(node)
            found[node] = tuple(sorted(above)[:MOST])
        if found == before:
            return found


def _is_origin(graph: Graph, node: int, classes: list[int], known: set[int]) -> bool:
    """A constant alone is never one: the operation that takes it says more."""
    if classes[node] in known or graph.keys[node].op in (CONSTANT, PHI):
        return False
    return all(classes[o] in known or _constant(graph, o) for o in graph.operands[node]) and not _constant(graph, node)


def _constant(graph: Graph, node: int) -> bool:
    """Whether a node is a constant, repeated or not."""
    while graph.keys[node].op == _BROADCAST:
        node = graph.operands[node][0]
    return graph.keys[node].op == CONSTANT


def _origin(graph: Graph, node: int) -> Origin:
    key = graph.keys[node]
    return Origin(
        op=_short(key.op),
        type=str(key.type),
        operands=tuple(_told(graph, operand) for operand in graph.operands[node]),
        attributes=tuple((name, str(value)) for name, value in key.attributes),
        place=place(graph.places[node]),
    )


def _told(graph: Graph, node: int) -> str:
    key = graph.keys[node]
    if key.op == INPUT:
        return str(key.attribute("name"))
    if key.op == _BROADCAST and _constant(graph, node):
        return _told(graph, graph.operands[node][0])
    if key.op == CONSTANT:
        value = key.attribute("value")
        return value.element.partition(" : ")[0] if hasattr(value, "element") else f"a constant {key.type}"
    return f"a carried {key.type}" if key.op == PHI else f"{_short(key.op)} {key.type}"


def _short(op: str) -> str:
    return op.removeprefix("stablehlo.")
