"""Which nodes are equal for all inputs: the coarsest partition that the operations agree with.

Everything but what loops carry is determined by its operands, so only PHIs are refined: all of one type and depth
begin as equal, the rest is numbered from them, and those whose start or next value turns out different are parted,
until nothing parts. What is left together is equal by induction on the iterations; classes only ever split, so nothing
equal by this argument is parted. The order of the operands of a commutative operation does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from harness.graph.nodes import PHI, SET, Graph, Key

__all__ = ["Partition", "begun", "commutative", "live", "refine"]

_INTEGERS = ("stablehlo.maximum", "stablehlo.minimum", "stablehlo.and", "stablehlo.or", "stablehlo.xor")
_NUMBERS = ("stablehlo.add", "stablehlo.multiply", SET)


class Partition(NamedTuple):
    """classes: class of each node, -1 for those that were not asked for. rounds: passes until nothing parted."""

    classes: list[int]
    rounds: int


def commutative(key: Key) -> bool:
    """Whether swapping operands keeps every bit.

    IEEE sums and products do (the payload of a NaN aside); a float maximum does not promise which zero it returns.
    """
    if key.op in _NUMBERS:
        return True
    if key.op in _INTEGERS:
        return not key.type.element.startswith(("f", "bf"))
    return key.op == "stablehlo.compare" and "EQ" in str(key.attribute("comparison_direction"))


def live(graph: Graph, roots: Iterable[int]) -> list[int]:
    """Every node that `roots` depend on, operands first."""
    seen: set[int] = set()
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting += graph.operands[node]
    return sorted(seen)


def refine(graph: Graph, roots: Iterable[int]) -> Partition:
    """The partition of all nodes that `roots` depend on."""
    return _stable(graph, roots, lambda classes, start, following: (classes[start], classes[following]))


def begun(graph: Graph, roots: Iterable[int]) -> Partition:
    """As `refine`, but carried values that begin alike count as equal whatever becomes of them.

    No proof: it shows inside of a loop what is done differently there, where `refine` parts all that the loop carries.
    """
    return _stable(graph, roots, lambda classes, start, following: (classes[start], 0))


def _stable(graph: Graph, roots: Iterable[int], told_by: Callable[[list[int], int, int], tuple[int, int]]) -> Partition:
    """Parts PHIs by what `told_by` (classes, start, next) gives until nothing parts."""
    nodes = live(graph, roots)
    keys: dict[Key, int] = {}
    kinds = {node: keys.setdefault(graph.keys[node], len(keys)) for node in nodes}
    loose = {kind for key, kind in keys.items() if commutative(key)}
    phis = [node for node in nodes if graph.keys[node].op == PHI]
    parts = {node: kinds[node] for node in phis}
    count, rounds = len(set(parts.values())), 0
    while True:
        rounds += 1
        classes = _numbered(graph, nodes, kinds, loose, parts)
        names: dict[tuple, int] = {}
        for node in phis:
            parts[node] = names.setdefault((parts[node], told_by(classes, *graph.operands[node])), len(names))
        if len(names) == count:
            return Partition(classes, rounds)
        count = len(names)


def _numbered(
    graph: Graph, nodes: list[int], kinds: dict[int, int], loose: set[int], parts: dict[int, int]
) -> list[int]:
    """Class of each node, given the part that each PHI is in. Operands come first, so one pass is enough."""
    classes = [-1] * len(graph)
    names: dict[tuple, int] = {}
    for node in nodes:
        if node in parts:
            name: tuple = (-1, parts[node])
        else:
            below = tuple([classes[operand] for operand in graph.operands[node]])
            kind = kinds[node]
            name = (kind, tuple(sorted(below)) if kind in loose else below)
        classes[node] = names.setdefault(name, len(names))
    return classes
