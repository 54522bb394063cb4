"""Two lowered programs, compared output by output for all inputs at once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from harness.graph.divergence import divergences
from harness.graph.marks import compare_marks
from harness.graph.nodes import Graph
from harness.graph.reading import Reading, read
from harness.graph.refine import Partition, refine
from harness.proof import Proof
from harness.recorder import Lowered

__all__ = ["prove"]


UNROLLED = 64
"""Loops of more iterations than this stay loops: written out they would cost more than running them."""


def prove(left: Lowered, right: Lowered) -> Proof:
    """Compare two programs as graphs. Raises ValueError for a program that its names do not fit.

    Loops are compared as loops. Where one program loops and the other does not, or they loop otherwise, a second
    comparison writes out the loops of both and counts if it proves more.
    """
    as_loops, loops = _compared(left, right, 0)
    if as_loops.proved or loops == (0, 0):
        return as_loops
    written_out, _ = _compared(left, right, UNROLLED)
    better = written_out if len(written_out.equal) > len(as_loops.equal) else as_loops
    return replace(better, seconds=as_loops.seconds + written_out.seconds)


def _compared(left: Lowered, right: Lowered, unrolled: int) -> tuple[Proof, tuple[int, int]]:
    """The proof with loops of up to `unrolled` iterations written out, and the number of loops that are left."""
    start = time.perf_counter()
    graph = Graph()
    first, second = read(graph, left, unrolled), read(graph, right, unrolled)
    marks = [mark.node for reading in (first, second) for mark in (*reading.constraints, *reading.barriers)]
    partition = refine(graph, [*first.outputs.values(), *second.outputs.values(), *marks])
    same, different = _parted(partition, first, second)
    proof = Proof(
        equal=same,
        unequal=divergences(graph, first, second, different),
        left_only=_only(first.outputs, second.outputs),
        right_only=_only(second.outputs, first.outputs),
        inputs=(_only(first.inputs, second.inputs), _only(second.inputs, first.inputs)),
        constraints=compare_marks(graph, partition, (first, second), "constraints"),
        barriers=compare_marks(graph, partition, (first, second), "barriers"),
        operations=(first.operations, second.operations),
        nodes=sum(each >= 0 for each in partition.classes),
        rounds=partition.rounds,
        rewrites=dict(Counter(graph.rewrites).most_common()),
        toolchains=(left.toolchain, right.toolchain),
        seconds=time.perf_counter() - start,
    )
    return proof, (first.loops, second.loops)


def _parted(partition: Partition, left: Reading, right: Reading) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The outputs that both have: those in one class, and those in two."""
    both = [name for name in left.outputs if name in right.outputs]
    equal = {name for name in both if partition.classes[left.outputs[name]] == partition.classes[right.outputs[name]]}
    return tuple(name for name in both if name in equal), tuple(name for name in both if name not in equal)


def _only(names: Mapping[str, int], others: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in others)
