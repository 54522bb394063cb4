"""The name map: neutral name ⟷ address on each side. Total both ways, so that no weight is lost or left at its start.

Linen's path is the neutral name ("params/Dense_0/kernel"). `harness.binding` makes a map. NumPy only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.distance import family

__all__ = [
    "Address",
    "Key",
    "Leaf",
    "NameMap",
    "NameMapError",
    "Part",
    "Row",
    "gather",
    "label",
    "spread",
    "table",
]

Key = tuple[str, tuple[str, ...]]
"""(collection, path): where a side stores an array. Integer path parts (nnx.List) are written as digits."""


class NameMapError(ValueError):
    """The two sides do not hold the same leaves. `problems` has one line for each thing that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(f"{len(problems)} problem(s) in the name map:\n" + "\n".join(f"- {text}" for text in problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """Shape and dtype name of one array."""

    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"

    @classmethod
    def of(cls, array: Any) -> Leaf:
        """Of anything with a shape and a dtype, abstract arrays too."""
        return cls(shape=tuple(array.shape), dtype=str(array.dtype))


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Some elements of a stored array, in an order of their own.

    shape: of the stored array. where: the leaf's shape, int64; for each element its flat index in the stored array.
    """

    shape: tuple[int, ...]
    where: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where one side keeps one leaf. `stack` is () or (axis, index): the leaf is that slice of a stacked array. Or it
    is `part` of a stored array."""

    collection: str
    path: tuple[str, ...]
    stack: tuple[int, ...] = ()
    part: Part | None = None

    def __str__(self) -> str:
        layer = f" [axis {self.stack[0]}, layer {self.stack[1]}]" if self.stack else ""
        part = f" [{self.part.where.size} of {math.prod(self.part.shape)} elements]" if self.part else ""
        return label((self.collection, self.path)) + layer + part

    @property
    def key(self) -> Key:
        """The stored array that holds the leaf."""
        return self.collection, self.path

    def take(self, array: np.ndarray) -> np.ndarray:
        """The leaf, out of the stored array."""
        if self.part:
            return array.reshape(-1)[self.part.where]
        return np.take(array, self.stack[1], axis=self.stack[0]) if self.stack else array


@dataclass(frozen=True, kw_only=True)
class Row:
    """One neutral name: its address on each side ("linen", "nnx"), and its shape and dtype, the same on both."""

    name: str
    addresses: Mapping[str, Address]
    leaf: Leaf

    @property
    def collection(self) -> str:
        """First part of the neutral name: params, batch_stats, cache..."""
        return self.name.partition("/")[0]


@dataclass(frozen=True, kw_only=True)
class NameMap:
    """All rows, in forward order as far as the Linen module tells it."""

    rows: tuple[Row, ...]

    def of(self, *collections: str) -> NameMap:
        """The part of the map that speaks of these collections."""
        return NameMap(rows=tuple(row for row in self.rows if row.collection in collections))


def spread(names: NameMap, side: str, weights: Mapping[str, np.ndarray]) -> dict[Key, np.ndarray]:
    """Neutral name -> array becomes (collection, path) -> array on `side`; layers are stacked where it stacks them, and
    parts put together.

    Raises NameMapError for a name without an array, an array without a name, and a wrong shape or dtype.
    """
    _check(names, weights, "weight")
    plain: dict[Key, np.ndarray] = {}
    layers: dict[Key, dict[tuple[int, ...], np.ndarray]] = {}
    for row in names.rows:
        address, array = row.addresses[side], weights[row.name]
        if address.stack:
            layers.setdefault(address.key, {})[address.stack] = array
        elif address.part:
            whole = plain.setdefault(address.key, np.empty(address.part.shape, array.dtype))
            whole.reshape(-1)[address.part.where] = array
        else:
            plain[address.key] = array
    stacked = {key: np.stack([found[at] for at in sorted(found)], axis=min(found)[0]) for key, found in layers.items()}
    return plain | stacked


def gather(names: NameMap, side: str, stored: Mapping[Key, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse of `spread`: what `side` stores, by neutral name, in forward order.

    Raises NameMapError for a leaf that is missing or left over, and for a wrong shape or dtype.
    """
    keys = {row.addresses[side].key for row in names.rows}
    problems = [f"{side} no longer holds {label(key)}: the call removed it" for key in keys - stored.keys()]
    problems += [f"{side} now holds {label(key)} too: the call added it" for key in stored.keys() - keys]
    if problems:
        raise NameMapError(sorted(problems))
    values = {row.name: row.addresses[side].take(stored[row.addresses[side].key]) for row in names.rows}
    _check(names, values, side)
    return values


def table(names: NameMap) -> dict[str, dict[str, str]]:
    """Neutral name -> side -> address as text."""
    return {row.name: {side: str(address) for side, address in row.addresses.items()} for row in names.rows}


def _check(names: NameMap, arrays: Mapping[str, np.ndarray], what: str) -> None:
    expected = {row.name: _as_wide(row.leaf, arrays.get(row.name)) for row in names.rows}
    found = {name: Leaf.of(array) for name, array in arrays.items()}
    problems = [f"{what} {name} is missing; expected {expected[name]}" for name in expected.keys() - found.keys()]
    problems += [f"{what} {name} {found[name]} has no row: remove it" for name in found.keys() - expected.keys()]
    shared = [name for name in expected if name in found and expected[name] != found[name]]
    problems += [f"{what} {name} is {found[name]}, expected {expected[name]}" for name in shared]
    if problems:
        raise NameMapError(sorted(problems))


def _as_wide(leaf: Leaf, array: np.ndarray | None) -> Leaf:
    """`leaf`; in float64 if the array is and the leaf is a real float: only an oracle, under x64, has those."""
    wide = array is not None and array.dtype == np.float64 and family(np.dtype(leaf.dtype)) == "float"
    return replace(leaf, dtype="float64") if wide else leaf


def label(key: Key) -> str:
    """A key as one text: "params/Dense_0/kernel"."""
    return "/".join((key[0], *key[1]))
