"""The name map: neutral name ⟷ address on each side. Total both ways, so that no weight is lost or left at its start.

Linen's path is the neutral name ("params/Dense_0/kernel"); `renames` says where the NNX module keeps it. NumPy only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any

import numpy as np

from harness.distance import family

__all__ = ["Address", "Key", "Leaf", "NameMap", "NameMapError", "Row", "bind", "gather", "renamed", "spread", "table"]

Key = tuple[str, tuple[str, ...]]
"""(collection, path): where a side stores an array. Integer path parts (nnx.List) are written as digits."""

_SIDES = ("linen", "nnx")


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


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where one side keeps one leaf. `stack` is () or (axis, index): the leaf is that slice of a stacked array."""

    collection: str
    path: tuple[str, ...]
    stack: tuple[int, ...] = ()

    def __str__(self) -> str:
        layer = f" [axis {self.stack[0]}, layer {self.stack[1]}]" if self.stack else ""
        return _text((self.collection, self.path)) + layer

    @property
    def key(self) -> Key:
        """The stored array that holds the leaf."""
        return self.collection, self.path

    def take(self, array: np.ndarray) -> np.ndarray:
        """The leaf, out of the stored array."""
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


def bind(
    linen: Mapping[Key, Leaf], nnx: Mapping[Key, Leaf], renames: Mapping[str, str], stacks: Mapping[str, int]
) -> NameMap:
    """Pairs the leaves of two modules.

    renames: Linen path prefix -> NNX path prefix ("Dense_0" -> "linear1"). The longest prefix wins; a path that no
        prefix matches is expected to be equal on both sides. Collections are equal always.
    stacks: "linen/<prefix>" or "nnx/<prefix>" -> axis: below that prefix the side stores the layers of a scan stacked
        on that axis while the other side stores them one by one. The prefix's paths are then read as
        "<prefix>/<layer>/...", in `renames` and in neutral names too.
    Raises NameMapError with every problem found.
    """
    left, right = (_unstacked(side, leaves, stacks) for side, leaves in zip(_SIDES, (linen, nnx), strict=True))
    targets = {key: (key[0], renamed(key[1], renames)) for key in left}
    free = {key: leaf for key, (_, leaf) in right.items() if key not in set(targets.values())}
    spare = {key: leaf for key, (_, leaf) in left.items() if targets[key] not in right}
    rows: list[Row] = []
    problems: list[str] = []
    for key, (address, leaf) in left.items():
        name, target = _text(key), targets[key]
        there, found = right.get(target, (address, leaf))
        if target not in right:
            problems.append(f"linen {name} {leaf}: nnx has no {_text(target)}{_hint(key, leaf, free)}")
        elif found != leaf:
            problems.append(f"linen {name} is {leaf}, nnx {_text(target)} is {found}: make shape and dtype equal")
        elif list(targets.values()).count(target) > 1:
            problems.append(f"linen {name} and another leaf are both renamed to nnx {_text(target)}: mend `renames`")
        rows.append(Row(name=name, addresses={"linen": address, "nnx": there}, leaf=leaf))
    problems += [_left_over(key, leaf, spare) for key, leaf in free.items()]
    problems += _stale(renames, left) if problems else []
    if problems:
        raise NameMapError(problems)
    return NameMap(rows=tuple(rows))


def renamed(path: tuple[str, ...], renames: Mapping[str, str]) -> tuple[str, ...]:
    """The NNX path of a Linen path: the longest prefix in `renames` replaced, or the path itself."""
    for length in range(len(path), 0, -1):
        target = renames.get("/".join(path[:length]))
        if target is not None:
            return tuple(part for part in target.split("/") if part) + path[length:]
    return path


def spread(names: NameMap, side: str, weights: Mapping[str, np.ndarray]) -> dict[Key, np.ndarray]:
    """Neutral name -> array becomes (collection, path) -> array on `side`; layers are stacked where it stacks them.

    Raises NameMapError for a name without an array, an array without a name, and a wrong shape or dtype.
    """
    _check(names, weights, "weight")
    plain = {row.addresses[side].key: weights[row.name] for row in names.rows if not row.addresses[side].stack}
    layers: dict[Key, dict[tuple[int, ...], np.ndarray]] = {}
    for address, name in ((row.addresses[side], row.name) for row in names.rows if row.addresses[side].stack):
        layers.setdefault(address.key, {})[address.stack] = weights[name]
    stacked = {key: np.stack([found[at] for at in sorted(found)], axis=min(found)[0]) for key, found in layers.items()}
    return plain | stacked


def gather(names: NameMap, side: str, stored: Mapping[Key, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse of `spread`: what `side` stores, by neutral name, in forward order.

    Raises NameMapError for a leaf that is missing or left over, and for a wrong shape or dtype.
    """
    keys = {row.addresses[side].key for row in names.rows}
    problems = [f"{side} no longer holds {_text(key)}: the call removed it" for key in keys - stored.keys()]
    problems += [f"{side} now holds {_text(key)} too: the call added it" for key in stored.keys() - keys]
    if problems:
        raise NameMapError(sorted(problems))
    values = {row.name: row.addresses[side].take(stored[row.addresses[side].key]) for row in names.rows}
    _check(names, values, side)
    return values


def table(names: NameMap) -> dict[str, dict[str, str]]:
    """Neutral name -> side -> address as text."""
    return {row.name: {side: str(address) for side, address in row.addresses.items()} for row in names.rows}


def _unstacked(side: str, leaves: Mapping[Key, Leaf], stacks: Mapping[str, int]) -> dict[Key, tuple[Address, Leaf]]:
    """Every leaf as if no layer were stacked, with the address that says where it really is."""
    prefixes = {tuple(text.split("/")[1:]): axis for text, axis in stacks.items() if text.startswith(f"{side}/")}
    result = {}
    for (collection, path), leaf in leaves.items():
        prefix = next((prefix for prefix in prefixes if path[: len(prefix)] == prefix), ())
        if not prefix:
            result[collection, path] = Address(collection=collection, path=path), leaf
            continue
        axis = prefixes[prefix]
        if axis >= len(leaf.shape):
            raise NameMapError([f"{side} {_text((collection, path))} is {leaf}, without axis {axis}: mend `stacks`"])
        inner = Leaf(shape=leaf.shape[:axis] + leaf.shape[axis + 1 :], dtype=leaf.dtype)
        for index in range(leaf.shape[axis]):
            key = (collection, (*prefix, str(index), *path[len(prefix) :]))
            result[key] = Address(collection=collection, path=path, stack=(axis, index)), inner
    return result


def _left_over(key: Key, leaf: Leaf, spare: Mapping[Key, Leaf]) -> str:
    near = _nearest(key, leaf, spare)
    if not near:
        return f"nnx {_text(key)} {leaf} has no Linen counterpart: remove it, or create it in the Linen module too"
    listed = ", ".join(f"{_text(other)} {spare[other]}" for other in near)
    return f"nnx {_text(key)} {leaf} is left over; nearest: {listed}; cure: {_cure(near[0], key)}"


def _hint(key: Key, leaf: Leaf, free: Mapping[Key, Leaf]) -> str:
    near = _nearest(key, leaf, free)
    if not near:
        return (
            "; no leaf of that collection is free there: create it in the NNX module, or remove it from the Linen one"
        )
    listed = ", ".join(f"{_text(other)} {free[other]}" for other in near)
    return f"; nearest: {listed}; cure: {_cure(key, near[0])}"


def _nearest(key: Key, leaf: Leaf, candidates: Mapping[Key, Leaf]) -> list[Key]:
    """Up to three leaves of the same collection: equal shape first, then equal last part, then likeness of the path."""

    def likeness(other: Key) -> tuple[bool, bool, float]:
        ratio = SequenceMatcher(a="/".join(key[1]), b="/".join(other[1])).ratio()
        return candidates[other].shape == leaf.shape, other[1][-1:] == key[1][-1:], ratio

    return sorted((other for other in candidates if other[0] == key[0]), key=likeness, reverse=True)[:3]


def _cure(linen: Key, nnx: Key) -> str:
    """The line of `renames` that pairs the two: the paths without their common end."""
    left, right = list(linen[1]), list(nnx[1])
    while len(left) > 1 and len(right) > 1 and left[-1] == right[-1]:
        left.pop(), right.pop()
    return f'renames={{"{"/".join(left)}": "{"/".join(right)}"}}'


def _stale(renames: Mapping[str, str], left: Mapping[Key, object]) -> list[str]:
    """Renames that touch no leaf. Only told beside other problems: a module without leaves may be renamed for taps."""
    paths = ["/".join(path) + "/" for _, path in left]
    unused = [prefix for prefix in renames if not any(path.startswith(f"{prefix}/") for path in paths)]
    return [f"renames[{prefix!r}] matches no Linen leaf: mend or remove that line" for prefix in unused]


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


def _text(key: Key) -> str:
    return "/".join((key[0], *key[1]))
