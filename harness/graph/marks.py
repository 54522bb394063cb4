"""Sharding constraints and optimization barriers of two programs, compared by the values that they are laid on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from harness.graph.nodes import Graph
from harness.graph.places import place
from harness.graph.reading import Mark, Reading
from harness.graph.refine import Partition, live
from harness.proof import Marked

__all__ = ["compare_marks"]

Channel = Literal["constraints", "barriers"]


def compare_marks(
    graph: Graph, partition: Partition, readings: tuple[Reading, Reading], channel: Channel
) -> tuple[Marked, ...]:
    """Marks that differ, left ones first. Those on values that only one program computes are left out.

    A value that is not the same on both sides is told as such; what is laid on it cannot be compared.
    """
    found: list[Marked] = []
    marks = [_by_class(partition, getattr(reading, channel)) for reading in readings]
    values = [{partition.classes[n] for n in live(graph, reading.outputs.values())} for reading in readings]
    for program in (0, 1):
        others, theirs = marks[1 - program], values[1 - program]
        for (kind, text), mark in marks[program].items():
            if (kind, text) not in others and kind in theirs and kind in values[program]:
                instead = sorted(other for which, other in others if which == kind)
                found.append(
                    Marked(
                        program=program,
                        type=str(graph.keys[mark.node].type),
                        text=text,
                        instead=", ".join(instead),
                        place=place(mark.place),
                    )
                )
    return tuple(found)


def _by_class(partition: Partition, marks: Sequence[Mark]) -> dict[tuple[int, str], Mark]:
    """(class of the value, text) -> the first mark of it. Laying one on twice is laying it on once."""
    found: dict[tuple[int, str], Mark] = {}
    for mark in marks:
        found.setdefault((partition.classes[mark.node], mark.text), mark)
    return found
