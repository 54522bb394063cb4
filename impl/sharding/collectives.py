"""What devices tell each other in a compiled step: its collectives, read from the text of the optimised HLO.

StableHLO holds none of them: the compiler makes them of shardings, and moves them out of loops or not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["KINDS", "Collective", "read_collectives"]

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([a-z][\w-]*)\((.*)$")
_NAME = re.compile(r"%([\w.-]+)")
_INDEX = re.compile(r"index=(\d+)")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_BODY = re.compile(r"body=%?([\w.-]+)")
_ARRAY = re.compile(r"\b([a-z]+)(\d*)[\w]*\[([\d,]*)\]")
_HANDED_ON = ("copy", "bitcast", "optimization-barrier")


class Collective(NamedTuple):
    """One collective of a program.

    kind: one of KINDS. shapes: of its results on one device; size: their bytes. looped: whether it is in the body of a
    loop, and so happens in each turn. repeated: whether it is told the same in each turn, so that once in all would do.
    """

    kind: str
    shapes: tuple[tuple[int, ...], ...]
    size: int
    looped: bool
    repeated: bool


@dataclass(frozen=True, kw_only=True)
class _Instruction:
    name: str
    type: str
    operation: str
    operands: tuple[str, ...]
    text: str
    root: bool


Computation = dict[str, _Instruction]


def read_collectives(text: str) -> tuple[Collective, ...]:
    """Every collective of the compiled program whose optimised HLO is `text`, in the order of the text.

    Raises ValueError for a text without an entry: it is no such program.
    """
    entry, found = _computations(text)
    if not entry:
        raise ValueError("this text has no ENTRY computation: hand over the optimised HLO of a compiled program")
    bodies = {body for each in found.values() for one in each.values() for body in _BODY.findall(one.text)}
    looped = _reached(found, bodies)
    return tuple(
        Collective(kind, shapes, size, inside in looped, inside in bodies and _same(instruction, found[inside]))
        for inside, computation in found.items()
        for instruction in computation.values()
        for kind, shapes, size in _collective(instruction)
    )


def _computations(text: str) -> tuple[str, dict[str, Computation]]:
    """The entry's name, and name of a computation -> name of an instruction -> that."""
    entry, inside = "", ""
    found: dict[str, Computation] = {}
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            inside = head[2]
            entry, found[inside] = inside if head[1] else entry, {}
        elif inside and (part := _INSTRUCTION.match(line)):
            root, name, kind, operation, rest = part.groups()
            operands = tuple(_NAME.findall(rest.partition(")")[0]))
            found[inside][name] = _Instruction(
                name=name, type=kind, operation=operation, operands=operands, text=rest, root=bool(root)
            )
    return entry, found


def _reached(found: Mapping[str, Computation], first: set[str]) -> set[str]:
    """The computations `first`, and all that they call."""
    reached, waiting = set(first), list(first)
    while waiting:
        for instruction in found.get(waiting.pop(), {}).values():
            called = {*_CALLED.findall(instruction.text)}
            called |= {name for part in _BRANCHES.findall(instruction.text) for name in re.findall(r"[\w.-]+", part)}
            waiting += called - reached
            reached |= called
    return reached


def _collective(instruction: _Instruction) -> Iterator[tuple[str, tuple[tuple[int, ...], ...], int]]:
    """Kind, shapes and bytes of what it returns, if it is a collective. One that only waits for another is none."""
    kind = instruction.operation.removesuffix("-start")
    if kind not in KINDS:
        return
    arrays = _ARRAY.findall(instruction.type)
    if kind != instruction.operation and kind != "all-reduce" and len(arrays) > 1:
        arrays = arrays[1:2]  # A started one returns its operand too, and what it needs to be waited for.
    shapes = tuple(tuple(int(size) for size in sizes.split(",") if size) for _, _, sizes in arrays)
    widths = [max(1, int(bits or 8) // 8) for _, bits, _ in arrays]
    yield kind, shapes, sum(width * math.prod(shape) for width, shape in zip(widths, shapes, strict=True))


def _same(instruction: _Instruction, body: Computation) -> bool:
    """Whether all operands are the same in each turn of the loop with this body."""
    kept = _kept(body)
    known: dict[str, bool] = {}

    def settled(name: str) -> bool:
        if name not in known:
            known[name] = False
            each = body.get(name)
            known[name] = each is not None and _fixed(each, body, kept, settled)
        return known[name]

    return all(settled(operand) for operand in instruction.operands)


def _fixed(each: _Instruction, body: Computation, kept: set[int], settled: Callable[[str], bool]) -> bool:
    if each.operation == "parameter":
        return False
    if each.operation == "get-tuple-element" and body[each.operands[0]].operation == "parameter":
        return int(_INDEX.search(each.text)[1]) in kept  # type: ignore[index]
    return all(settled(operand) for operand in each.operands)


def _kept(body: Computation) -> set[int]:
    """Indices of what a turn of the loop hands on as it was handed it."""
    (root,) = (each for each in body.values() if each.root)
    if root.operation != "tuple":
        return set()
    return {index for index, name in enumerate(root.operands) if _origin(name, body) == index}


def _origin(name: str, body: Computation) -> int:
    """The index of the loop's state that the value `name` is, untouched; -1 if it is none."""
    each = body[name]
    while each.operation in _HANDED_ON:
        each = body[each.operands[0]]
    if each.operation != "get-tuple-element" or body[each.operands[0]].operation != "parameter":
        return -1
    return int(_INDEX.search(each.text)[1])  # type: ignore[index]
