"""Leaves that two modules store otherwise: fused and apart, reshaped, transposed, padded never.

A code base that migrates has a function for it anyway: what turns weights of the old tree into those of the new one. It
is asked once, with a number for every element in the place of the weights; where the numbers come to lie says which
element is which. So weights, gradients and optimizer slots all follow one function, and its inverse needs no writing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from harness.names import Address, Key, Leaf, NameMapError, Part, Row, label

__all__ = ["Rearranged", "as_they_are", "rearranged_rows"]

Rearranged = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Linen's leaves -> those of NNX that are made of them; both by name, "params/Dense_0/kernel"."""


def as_they_are(linen: Mapping[str, Any]) -> Mapping[str, Any]:
    """Nothing is stored otherwise."""
    return {}


class _Read(Mapping[str, np.ndarray]):
    """Linen's leaves as numbers; remembers which were asked for. starts: the number of each leaf's first element."""

    def __init__(self, leaves: Mapping[Key, Leaf]):
        self.keys_of = {label(key): key for key in leaves}
        sizes = np.cumsum([0, *(int(np.prod(leaf.shape)) for leaf in leaves.values())])
        self.starts = dict(zip(leaves, sizes.tolist(), strict=False))
        self.shapes = {key: leaf.shape for key, leaf in leaves.items()}
        self.asked: dict[Key, None] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        key = self.keys_of[name]
        self.asked.setdefault(key)
        return self.numbers(key)

    def __contains__(self, name: object) -> bool:
        return name in self.keys_of

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys_of)

    def __len__(self) -> int:
        return len(self.keys_of)

    def numbers(self, key: Key) -> np.ndarray:
        shape = self.shapes[key]
        return self.starts[key] + np.arange(np.prod(shape, dtype=np.int64)).reshape(shape)


def rearranged_rows(left: Mapping[Key, Leaf], right: Mapping[Key, Leaf], function: Rearranged) -> tuple[Row, ...]:
    """A row for each piece of a Linen leaf that lies in one NNX leaf, in Linen's order.

    left, right: all leaves of Linen and of NNX.
    A whole Linen leaf keeps its name and shape. A piece is called "<linen name>:<nnx path>", and has the shape of the
    NNX leaf if it is all of it.
    Raises NameMapError with every problem: elements that are lost, doubled or changed, other names, shapes or dtypes.
    """
    if function is as_they_are:
        return ()
    read = _Read(left)
    try:
        made = {name: np.asarray(value) for name, value in function(read).items()}
    except Exception as problem:  # whatever the code base raises
        raise NameMapError([f"`rearranged` raised {type(problem).__name__}: {problem}"]) from problem
    targets = {label(key): key for key in right}
    misfits = (_misfit(name, value, right.get(targets.get(name, ("", ())))) for name, value in made.items())
    problems = [text for text in misfits if text]
    problems = problems or _unmatched(read, list(made.values()))
    if problems:
        raise NameMapError(problems)
    rows: list[Row] = []
    for key in read.asked:
        numbers = read.numbers(key)
        for name, value in made.items():
            piece = np.isin(value, numbers)
            if not piece.any():
                continue
            if left[key].dtype != right[targets[name]].dtype:
                text = f"linen {label(key)} is {left[key]}, nnx {name} is {right[targets[name]]}: make the dtypes equal"
                raise NameMapError([text])
            rows.append(_row((key, left[key].dtype), numbers, targets[name], value, piece))
    order = {key: index for index, key in enumerate(left)}
    return tuple(sorted(rows, key=lambda row: order[row.addresses["linen"].key]))


def _misfit(name: str, value: np.ndarray, leaf: Leaf | None) -> str:
    if leaf is None:
        return f"`rearranged` makes {name}, which nnx does not have: give a name such as params/linear/kernel"
    if value.dtype.kind not in "iu":
        return f"`rearranged` makes {value.dtype} of whole numbers for {name}: it may only move elements"
    if value.shape != leaf.shape:
        return f"`rearranged` makes {list(value.shape)} for nnx {name}, which is {leaf}: mend the function"
    return ""


def _unmatched(read: _Read, values: list[np.ndarray]) -> list[str]:
    """Leaves that were asked for and of which not every element arrives just once."""
    if not values:
        return ["`rearranged` returns nothing: leave it out, or return the leaves that it makes"]
    arrived, times = np.unique(np.concatenate([value.reshape(-1) for value in values]), return_counts=True)
    problems = []
    for key in read.asked:
        numbers = read.numbers(key).reshape(-1)
        found = np.isin(numbers, arrived)
        twice = np.isin(arrived[times > 1], numbers).sum()
        if not found.all() or twice:
            problems.append(f"of linen {label(key)}, {(~found).sum()} elements are lost and {twice} are used twice")
    known = np.concatenate([read.numbers(key).reshape(-1) for key in read.asked]) if read.asked else np.empty(0)
    strange = ~np.isin(arrived, known)
    return problems + (
        [f"{strange.sum()} elements come from no Linen leaf: move elements only"] if strange.any() else []
    )


def _row(source: tuple[Key, str], numbers: np.ndarray, target: Key, value: np.ndarray, piece: np.ndarray) -> Row:
    """source: a Linen leaf and its dtype. piece: which elements of the NNX leaf `value` are of it."""
    key, dtype = source
    whole = piece.sum() == numbers.size
    places = np.flatnonzero(piece)
    moved = value.reshape(-1)[places] - numbers.reshape(-1)[0]  # flat index in the Linen leaf of each
    here: Part | None = None
    there: Part | None = None
    if whole:
        there = Part(shape=value.shape, where=places[np.argsort(moved)].reshape(numbers.shape))
    else:
        here = Part(shape=numbers.shape, where=moved.reshape(value.shape) if piece.all() else moved)
        there = None if piece.all() else Part(shape=value.shape, where=places)
    shape = here.where.shape if here else numbers.shape
    return Row(
        name=label(key) if whole else f"{label(key)}:{'/'.join(target[1])}",
        addresses={
            "linen": Address(collection=key[0], path=key[1], part=here),
            "nnx": Address(collection=target[0], path=target[1], part=there),
        },
        leaf=Leaf(shape=shape, dtype=dtype),
    )
