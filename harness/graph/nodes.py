"""The graph of values that both programs are read into: nodes that are the same are one node from the start."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ARGUMENT", "CONSTANT", "INPUT", "LOOP_END", "PHI", "SET", "Form", "Graph", "Key", "Type"]

INPUT, PHI, LOOP_END, ARGUMENT, CONSTANT = "input", "phi", "loop end", "argument", "stablehlo.constant"

SET = "set"
"""Values side by side, in whatever order: what is sorted next."""

Attributes = tuple[tuple[str, object], ...]


class Type(NamedTuple):
    """shape and element type of a tensor; of anything else, `element` is its whole text and `shape` (-1,)."""

    shape: tuple[int, ...]
    element: str

    def __str__(self) -> str:
        return self.element if self.shape == (-1,) else f"{self.element}[{','.join(map(str, self.shape))}]"


class Key(NamedTuple):
    """All of a node but its operands: the operation, its attributes by name, its type.

    An operation with several results has a node for each; `result` tells them apart.
    """

    op: str
    attributes: Attributes
    type: Type
    result: int = 0

    def attribute(self, name: str) -> object:
        """The attribute called `name`, None if there is none."""
        return next((value for key, value in self.attributes if key == name), None)


Form = tuple[Key, tuple["int | Form", ...]]
"""A node that may not be in the graph yet: its key, and its operands, which are nodes or forms again."""


class Graph:
    """Nodes by number; operands come before the nodes that use them, but for the second operand of a PHI.

    A PHI is what a loop carries: operand 0 is its value before the first iteration, operand 1 (-1 until `close`) after
    one more. Its key holds the depth of its loop, and so it stands for a function of the counters of the loops around
    it, never to be taken for a value of an inner or outer loop. `rewrites` counts the rewrites that were applied.
    """

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self.operands: list[tuple[int, ...]] = []
        self.places: list[object] = []
        self.rewrites: dict[str, int] = {}
        self._known: dict[tuple[Key, tuple[int, ...]], int] = {}

    def __len__(self) -> int:
        return len(self.keys)

    def node(self, key: Key, operands: tuple[int, ...], place: object) -> int:
        """The node of `key` and `operands`, made if there is none. `place`: where it came from, kept from the first."""
        known = self._known.get((key, operands))
        if known is None:
            known = self._known[key, operands] = self._add(key, operands, place)
        return known

    def phi(self, type: Type, depth: int, start: int, place: object) -> int:
        """A carried value of a loop `depth` loops deep that starts as `start`."""
        return self._add(Key(PHI, (("depth", depth),), type), (start, -1), place)

    def close(self, phi: int, following: int) -> None:
        """Says what `phi` becomes in each further iteration."""
        self.operands[phi] = (self.operands[phi][0], following)

    def _add(self, key: Key, operands: tuple[int, ...], place: object) -> int:
        self.keys.append(key)
        self.operands.append(operands)
        self.places.append(place)
        return len(self.keys) - 1
