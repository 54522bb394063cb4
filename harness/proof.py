"""What a comparison of two programs as graphs came to. Records only: no JAX here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Divergence", "Marked", "Origin", "Place", "Proof", "Proven"]


class Place(NamedTuple):
    """file and line of the innermost frame that belongs to no installed library ("", 0 if none is known).

    path: what the frameworks call the operation: "jit(step)/Transformer/decoder/layers/mlp/mul".
    """

    file: str
    line: int
    path: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.file else "an unknown line"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """An operation that only one program has, though the other has all of its operands.

    operands: what each is, shortly: "decoder/norm/scale" (an input), "2.0", "add f32[4]".
    """

    op: str
    type: str
    operands: tuple[str, ...]
    attributes: tuple[tuple[str, str], ...]
    place: Place


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """The first operations, in order, at which the two computations of an output part; either list may be empty."""

    left: tuple[Origin, ...]
    right: tuple[Origin, ...]


@dataclass(frozen=True, kw_only=True)
class Marked:
    """A sharding constraint or barrier that only one program has, on a value that both compute.

    program: 0 left, 1 right. text: the sharding, "" of a barrier. instead: what the other lays on that value.
    """

    program: int
    type: str
    text: str
    instead: str
    place: Place


@dataclass(frozen=True, kw_only=True)
class Proven:
    """A proof in short, as a verdict keeps it. part: "train/step". equal, outputs: of so many outputs so many.

    parting: where the first unequal output parts, in words, "" if all are equal. marks: sharding constraints and
    barriers that only one side has, in words. seconds: lowering both and proving. digests: of the left and the right
    program (`harness.graph.digest`), "" where none was taken or none can be.
    """

    part: str
    equal: int
    outputs: int
    operations: tuple[int, int]
    rewrites: Mapping[str, int]
    parting: str
    marks: tuple[str, ...]
    seconds: float
    digests: tuple[str, str] = ("", "")

    @property
    def proved(self) -> bool:
        """Whether every output is equal for all inputs, and there is one."""
        return 0 < self.outputs == self.equal


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What is known of two programs without having run them.

    equal: outputs that are equal for all inputs. unequal: output -> where its two computations first part.
    left_only, right_only: outputs that the other program lacks. inputs: names that only the left, the right one takes.
    constraints, barriers: what differs on the channels beside the values.
    operations: how many each program has, calls inlined. nodes: values of both together, as far as outputs need them.
    rewrites: name -> how often. toolchains: what lowered each. seconds: reading and comparing, without the lowering.
    """

    equal: tuple[str, ...]
    unequal: Mapping[str, Divergence]
    left_only: tuple[str, ...]
    right_only: tuple[str, ...]
    inputs: tuple[tuple[str, ...], tuple[str, ...]]
    constraints: tuple[Marked, ...]
    barriers: tuple[Marked, ...]
    operations: tuple[int, int]
    nodes: int
    rounds: int
    rewrites: Mapping[str, int]
    toolchains: tuple[Mapping[str, str], Mapping[str, str]]
    seconds: float

    @property
    def outputs(self) -> int:
        """How many outputs either program has."""
        return len(self.equal) + len(self.unequal) + len(self.left_only) + len(self.right_only)

    @property
    def proved(self) -> bool:
        """Whether every output is equal for all inputs, and there is one. Constraints and barriers are not values."""
        return bool(self.equal) and len(self.equal) == self.outputs
