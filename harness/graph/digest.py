"""A name for what a program computes: the same for two spellings that prove equal, another after any real change.

Every value is coloured by what it is and by the colours of what it is made from. What a loop carries is made from
itself, so colours are taken in rounds, as `harness.graph.refine` parts classes, until no carried value parts any more.
Colours of that round could still be alike in two programs that part later; the digest therefore holds the outputs'
colours and every operation between colours, which is the whole program up to equality.

Order of arguments and statements, names inside the module, places and dead code do not count. Two programs that
`harness.graph.proof.prove` proves equal have one digest, but where it had to write loops out to see it: a loop and
its iterations one after another have two. Versions of jax may lower one function to two graphs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from harness.graph.nodes import PHI, Graph
from harness.graph.reading import Reading, read
from harness.graph.refine import commutative, live
from harness.recorder import Lowered

__all__ = ["digest"]

_LENGTH = 16
"""Bytes of a colour."""


def digest(lowered: Lowered) -> str:
    """ "values:marks", 32 hexadecimal digits each: what every output is, and what is laid on values on the way.

    marks are sharding constraints and optimization barriers, with the values that they are laid on. "" for a program
    that holds an operation that is equal to nothing (`harness.graph.effects`): nobody could say that it is unchanged.
    Raises ValueError for a program that its names do not fit.
    """
    graph = Graph()
    reading = read(graph, lowered)
    nodes = live(graph, reading.outputs.values())
    if any(graph.keys[node].attribute("only") is not None for node in nodes):
        return ""
    colours = _coloured(graph, nodes, live(graph, [mark.node for mark in _marks(reading)]))
    outputs = [f"{name}\0{colours[node]}" for name, node in reading.outputs.items()]
    return f"{_sum([*outputs, *_operations(graph, nodes, colours)])}:{_sum(_laid(reading, nodes, colours))}"


def _marks(reading: Reading) -> list:
    return [*reading.constraints, *reading.barriers]


def _coloured(graph: Graph, nodes: list[int], more: list[int]) -> dict[int, str]:
    """Colour of each of `nodes` and `more`, after as many rounds as `nodes` need until no carried value parts."""
    kinds, loose = _kinds(graph, every := sorted({*nodes, *more}))
    phis = [node for node in every if graph.keys[node].op == PHI]
    lasting = [node for node in nodes if graph.keys[node].op == PHI]
    carried = {node: kinds[node] for node in phis}
    moving = _on_loops(graph, every)
    colours: dict[int, str] = {}
    count = -1
    while count != (count := len({carried[node] for node in lasting})):
        for node in every if not colours else moving:
            if node in carried:
                colours[node] = carried[node]
                continue
            below = [colours[operand] for operand in graph.operands[node]]
            colours[node] = _hash(kinds[node], sorted(below) if node in loose else below)
        carried = {node: _hash(carried[node], [colours[operand] for operand in graph.operands[node]]) for node in phis}
    return colours


def _kinds(graph: Graph, nodes: list[int]) -> tuple[dict[int, str], set[int]]:
    """What each node is, its operands apart, and the nodes whose operands may be swapped."""
    texts: dict[object, str] = {}
    kinds, loose = {}, set()
    for node in nodes:
        key = graph.keys[node]
        if key not in texts:
            texts[key] = _hash(repr((key.op, key.attributes, tuple(key.type), key.result)), [])
        kinds[node] = texts[key]
        if commutative(key):
            loose.add(node)
    return kinds, loose


def _on_loops(graph: Graph, nodes: list[int]) -> list[int]:
    """The nodes that rest on what a loop carries: only their colours change from round to round."""
    found: set[int] = set()
    for node in nodes:
        if graph.keys[node].op == PHI or any(operand in found for operand in graph.operands[node]):
            found.add(node)
    return [node for node in nodes if node in found]


def _operations(graph: Graph, nodes: list[int], colours: Mapping[int, str]) -> Iterable[str]:
    """One line for each colour that is live: what it is made from. Loops close here."""
    kinds, loose = _kinds(graph, nodes)
    for node in nodes:
        below = [colours[operand] for operand in graph.operands[node]]
        yield f"{colours[node]}\0{kinds[node]}\0{' '.join(sorted(below) if node in loose else below)}"


def _laid(reading: Reading, nodes: list[int], colours: Mapping[int, str]) -> Iterable[str]:
    """One line for each mark on a value that outputs are made from. Laying one on twice is laying it on once."""
    known = {colours[node] for node in nodes}
    for channel, marks in (("constraint", reading.constraints), ("barrier", reading.barriers)):
        yield from (f"{channel}\0{colours[m.node]}\0{m.text}" for m in marks if colours[m.node] in known)


def _hash(kind: str, below: Iterable[str]) -> str:
    return hashlib.blake2b("\0".join((kind, *below)).encode(), digest_size=_LENGTH).hexdigest()


def _sum(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(set(lines))).encode()).hexdigest()[:32]
