"""Which calls of one side are which of the other's, and which of their values belong together. No JAX here.

Modules are paired by the weights that they hold, where the pair's table of names tells, and by path, numbers being
parts of their own (layers_2 is layers/2); what is left, by the path without numbers (layers written out against layers
scanned); what is left then, below a caller that is paired, in the order of calls by class and shapes, or by shapes
alone. A module that stays alone counts as its caller's own code.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from harness.forcing.tape import Arrays, Arrival, Place, Stream, Tape

__all__ = ["Pairing", "Together", "aligned", "key", "merged", "once", "paired", "streams"]

Group = tuple[Place, ...]


@dataclass(frozen=True)
class Pairing:
    """Places of one module on the left and on the right; several where numbers in the path do not fit."""

    left: Group
    right: Group


@dataclass(frozen=True)
class Together:
    """Values of a stream that belong together. by_value: arrivals of the same values count once (rematerialisation).

    leaves: index of an array on the left -> on the right; only those are compared and handed over.
    """

    left: list[Arrival]
    right: list[Arrival]
    by_value: bool
    leaves: Mapping[int, int]


def paired(left: Tape, right: Tape, same: Mapping[tuple[str, ...], tuple[str, ...]]) -> list[Pairing]:
    """Pairings, in the left order of calls; a place where nothing arrived, or not as often on both sides, has none.

    same: path on the right -> on the left of modules that are known to be the same.
    """
    sides = [list(dict.fromkeys(place for place, _ in tape.arrivals)) for tape in (left, right)]
    found: list[Pairing] = []
    known = (_as_itself, partial(_known, same)), (_as_itself, _as_itself), (_unnumbered, _unnumbered)
    for keys in known:
        groups = [_grouped([p for p in side if not _in(p, found, at)], keys[at]) for at, side in enumerate(sides)]
        found += [Pairing(groups[0][key], groups[1][key]) for key in groups[0] if key in groups[1]]
    while more := _by_order((left, right), sides, found):
        found += more
    whole = [each for each in found if _as_often(left, right, each)]
    return sorted(whole, key=lambda each: sides[0].index(each.left[0]))


def _as_itself(place: Place) -> Hashable:
    return place


def _known(same: Mapping[tuple[str, ...], tuple[str, ...]], place: Place) -> Hashable:
    path, method = place
    return same.get(path, path), method


def _in(place: Place, found: Iterable[Pairing], side: int) -> bool:
    return any(place in (each.left, each.right)[side] for each in found)


def _unnumbered(place: Place) -> Hashable:
    path, method = place
    return tuple(part for part in path if not part.isdigit()), method


def _grouped(places: Sequence[Place], key: Callable[[Place], Any]) -> dict[Any, Group]:
    groups: dict[Any, Group] = {}
    for place in places:
        groups[key(place)] = (*groups.get(key(place), ()), place)
    return groups


def _by_order(tapes: tuple[Tape, Tape], sides: list[list[Place]], found: list[Pairing]) -> list[Pairing]:
    """Places left over that come in one order below the same caller: of one class and shapes, or of one shape."""
    left_over = [[p for p in side if not _in(p, found, at)] for at, side in enumerate(sides)]
    below: list[dict[Any, list[Place]]] = [{}, {}]
    for at, places in enumerate(left_over):
        for place in places:
            below[at].setdefault(_caller(tapes[at], place, found, at), []).append(place)
    for look in (_class_and_shapes, _shapes):
        for caller, ours in below[0].items():
            theirs = below[1].get(caller, [])
            words = [[look(tapes[at], place) for place in places] for at, places in enumerate((ours, theirs))]
            blocks = difflib.SequenceMatcher(None, words[0], words[1], autojunk=False).get_matching_blocks()
            more = [Pairing((ours[b.a + i],), (theirs[b.b + i],)) for b in blocks for i in range(b.size)]
            if more:
                return more
    return []


def _caller(tape: Tape, place: Place, found: list[Pairing], side: int) -> int:
    """Number of the pairing of the nearest caller that has one; -1 outside of all."""
    call = next(call for call in tape.calls if call.place == place)
    while call.parent >= 0:
        call = tape.calls[call.parent]
        for number, each in enumerate(found):
            if call.place in (each.left, each.right)[side]:
                return number
    return -1


def _shapes(tape: Tape, place: Place) -> Hashable:
    arrivals = tape.arrivals.get((place, "output"), [])
    return place[1], tuple(value.shape for value in arrivals[0].values) if arrivals else ()


def _class_and_shapes(tape: Tape, place: Place) -> Hashable:
    return next(call.kind for call in tape.calls if call.place == place), _shapes(tape, place)


def _as_often(left: Tape, right: Tape, pairing: Pairing) -> bool:
    return all(streams(left, right, pairing, stream) is not None for stream in ("arguments", "output"))


def streams(left: Tape, right: Tape, pairing: Pairing, stream: Stream) -> Together | None:
    """What arrived on both sides of a pairing; None if that was not as often. Nothing on a way back is not often."""
    ours, theirs = merged(left, pairing.left, stream), merged(right, pairing.right, stream)
    if stream.endswith("back") and not (ours and theirs):
        ours, theirs = [], []
    by_value = len(ours) != len(theirs)
    if by_value:
        ours, theirs = once(ours), once(theirs)
    if len(ours) != len(theirs):
        return None
    return Together(ours, theirs, by_value, aligned(ours[0].values, theirs[0].values) if ours else {})


def merged(tape: Tape, group: Group, stream: Stream) -> list[Arrival]:
    """Arrivals of all places of a group, in the order in which they happened."""
    every = [arrival for place in group for arrival in tape.arrivals.get((place, stream), ())]
    return sorted(every, key=lambda arrival: arrival.time)


def once(arrivals: Sequence[Arrival]) -> list[Arrival]:
    """The first of those with the same values."""
    found: dict[Hashable, Arrival] = {}
    for arrival in arrivals:
        found.setdefault(key(arrival.values), arrival)
    return list(found.values())


def key(values: Arrays) -> Hashable:
    """Equal for the same bits."""
    return tuple((value.dtype.name, value.shape, value.tobytes()) for value in values)


def aligned(ours: Arrays, theirs: Arrays) -> dict[int, int]:
    """Index on the left -> on the right of arrays of one shape, in order."""
    shapes = [[value.shape for value in values] for values in (ours, theirs)]
    blocks = difflib.SequenceMatcher(None, shapes[0], shapes[1], autojunk=False).get_matching_blocks()
    return {block.a + at: block.b + at for block in blocks for at in range(block.size)}
