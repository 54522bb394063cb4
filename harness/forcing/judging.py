"""What still differs when everything was handed over: where that is born. NumPy only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from harness import noise
from harness.causes import Cause, Way
from harness.distance import family
from harness.forcing.labels import Labels
from harness.forcing.pairing import Pairing, streams
from harness.forcing.tape import STREAMS, Arrival, Place, Stream, Tape
from harness.forcing.watching import normal

__all__ = ["Apart", "Sizes", "causes", "modules_apart", "sizes"]

OUTSIDE = {"arguments": "model", "output back": "loss"}
"""What hands values to a module that no module calls: whatever is around the model, and what makes a loss of it."""

WAYS: Mapping[Stream, Way] = {
    "arguments": "handing on",
    "output": "output",
    "output back": "handing back",
    "arguments back": "backward",
}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How far values are apart. gap: the largest difference, top: the largest value, both finite. dtypes: other ones.

    rounding: whether the gap is one that dtypes of this width may round to, see `harness.noise.room`.
    """

    gap: float
    top: float
    rounding: bool
    dtypes: bool


@dataclass(frozen=True, kw_only=True)
class Apart:
    """Values that differ at the border of a module. module: whose code made them. label: the module they belong to."""

    module: str
    label: str
    family: tuple[str, ...]
    stream: Stream
    sizes: Sizes


def sizes(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], precision: str) -> Sizes | None:
    """How far pairs of arrays are apart; None if all are equal. A NaN is equal to a NaN, 0 to -0."""
    pairs = [(np.asarray(a), np.asarray(b)) for a, b in zip(ours, theirs, strict=True)]
    apart = [(a, b) for a, b in pairs if a.dtype != b.dtype or a.shape != b.shape or not _equal(a, b)]
    if not apart:
        return None
    gap, top, rounding, dtypes = 0.0, 0.0, True, False
    for a, b in apart:
        dtypes = dtypes or a.dtype != b.dtype
        if a.shape != b.shape:
            return Sizes(gap=float("inf"), top=noise.largest(a), rounding=False, dtypes=dtypes)
        both = np.isfinite(a.astype(np.float64)) & np.isfinite(b.astype(np.float64))
        here = float(np.max(np.abs(a.astype(np.float64) - b.astype(np.float64)), where=both, initial=0.0))
        most = max(noise.largest(a), noise.largest(b))
        rounding = rounding and bool(np.all(both | _same(a, b))) and here <= _room((a, b), precision) * most
        gap, top = max(gap, here), max(top, most)
    return Sizes(gap=gap, top=top, rounding=rounding, dtypes=dtypes)


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.all(_same(a, b)))


def _same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a == b) | ((a != a) & (b != b))


def _room(values: Iterable[np.ndarray], precision: str) -> float:
    """The part of the largest value that a few roundings of the coarsest dtype may take; 0 of whole numbers."""
    dtypes = [np.dtype(precision)] if precision else []
    dtypes += [value.dtype for value in values]
    if any(family(dtype) != "float" for dtype in dtypes):
        return 0.0
    return max(noise.room(dtype) * noise.spacing(np.ones((), dtype)) for dtype in dtypes)


def modules_apart(tapes: tuple[Tape, Tape], pairings: Sequence[Pairing], labels: Labels, precision: str) -> list[Apart]:
    """Every value at the border of a paired module that is not the same in both recordings, as it happened."""
    known = {place for pairing in pairings for place in pairing.left}
    found: list[tuple[int, Apart]] = []
    for pairing in pairings:
        for stream in STREAMS:
            together = streams(*tapes, pairing, stream)
            if together is None:
                continue
            for left, right in zip(together.left, together.right, strict=True):
                shared = {a: b for a, b in together.leaves.items() if a < len(left.values) and b < len(right.values)}
                ours, theirs = [left.values[a] for a in shared], [right.values[b] for b in shared.values()]
                if seen := sizes(ours, theirs, precision):
                    found.append((right.time, _apart(tapes[0], known, labels, (stream, left), seen)))
    return [each for _, each in sorted(found, key=lambda item: item[0])]


def _apart(tape: Tape, known: Set[Place], labels: Labels, arrived: tuple[Stream, Arrival], seen: Sizes) -> Apart:
    """Whose code made the values that differ: the module's own, or that of the nearest paired module that calls it."""
    stream, arrival = arrived
    call = tape.calls[arrival.call]
    label = labels.label(call.path, call.place, stream, arrival.at)
    maker, outside = call, ""
    if stream in OUTSIDE:
        parent = call.parent
        while parent >= 0 and tape.calls[parent].place not in known:
            parent = tape.calls[parent].parent
        maker, outside = (tape.calls[parent], "") if parent >= 0 else (call, OUTSIDE[stream])
    own = outside or labels.label(maker.path, call.place, stream, arrival.at) or "model"
    words = (outside,) if outside else tuple(word for word in normal(maker.path) if not word.isdigit())
    return Apart(module=own, label=label or "model", family=words, stream=stream, sizes=seen)


def causes(apart: Sequence[Apart]) -> list[Cause]:
    """One for each module but for the numbers in its path, in the order in which they first show.

    Another dtype cannot be handed over, so values that differ in nothing else count only where that begins.
    """
    found: dict[tuple[str, ...], Cause] = {}
    typed = False
    for each in apart:
        if each.sizes.dtypes and each.sizes.gap == 0.0:
            if typed:
                continue
            typed = True
        way = WAYS[each.stream]
        known = found.get(each.family)
        if known is None:
            found[each.family] = Cause(
                module=each.module,
                ways=(way,),
                seen=each.label if way in ("handing on", "handing back") else "",
                others=(),
                size=each.sizes.gap,
                top=each.sizes.top,
                rounding=each.sizes.rounding and not each.sizes.dtypes,
            )
            continue
        found[each.family] = replace(
            known,
            ways=cast("tuple[Way, ...]", tuple(dict.fromkeys((*known.ways, way)))),
            others=tuple(dict.fromkeys((*known.others, *({each.module} - {known.module})))),
            rounding=known.rounding and each.sizes.rounding,
            size=max(known.size, each.sizes.gap) if way == known.ways[0] else known.size,
            top=max(known.top, each.sizes.top) if way == known.ways[0] else known.top,
        )
    return list(found.values())
