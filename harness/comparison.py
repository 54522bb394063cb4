"""Every difference between two observations, in forward order. NumPy only: nothing is printed, decided or written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.allowance import Allowance
from harness.difference import Difference, Room, find
from harness.observation import CHANNELS, Failure, Observation

__all__ = ["Comparison", "Counts", "Difference", "compare", "compare_within"]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How much of a channel was compared.

    expected: names on the left. compared: names on both sides whose arrays have elements (an empty array proves
    nothing). missing, extra: names on the left or the right only. differing: names on both sides that are not the
    same, allowed or not.
    """

    expected: int
    compared: int
    missing: int
    extra: int
    differing: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All differences between `left` and `right`, allowed ones too, and what was compared. compared 0 is a failure."""

    left: str
    right: str
    channels: Mapping[str, Counts]
    differences: tuple[Difference, ...]
    unused: tuple[Allowance, ...] = ()

    @property
    def compared(self) -> int:
        """Values compared over all channels."""
        return sum(counts.compared for counts in self.channels.values())

    @property
    def first(self) -> Difference | None:
        """The first difference that nothing allows."""
        return next((difference for difference in self.differences if difference.allowed_by is None), None)


def compare(left: Observation, right: Observation, allow: Sequence[Allowance]) -> Comparison:
    """Compares every value of two observations; the first of `allow` that covers a differing value decides about it.

    Channels go in the order of CHANNELS, then unknown ones by name; names in the left order, then what the right has
    besides. Equal means the same bits. Text is compared as text. Only differences of value can be allowed: never a
    missing name, a shape, a dtype, text, a NaN or infinity on one side, a false claim or an error. A claim that is
    false is a difference even if it is false on both sides. Two errors are compared as one value "outputs/error".
    An error is the first difference. `unused` holds the allowances that decided about nothing.

    Raises TypeError for a dtype that cannot be compared (object, datetime, record).
    """
    needed: set[int] = set()

    def room(channel: str, name: str) -> Allowance | None:
        for index, allowance in enumerate(allow):
            if allowance.covers(channel, name):
                needed.add(index)
                return allowance
        return None

    found = compare_within(left, right, room)
    unused = tuple(allowance for index, allowance in enumerate(allow) if index not in needed)
    return Comparison(
        left=found.left, right=found.right, channels=found.channels, differences=found.differences, unused=unused
    )


def compare_within(left: Observation, right: Observation, room: Room) -> Comparison:
    """As `compare`, with the allowance of each differing value looked up by `room`; nothing counts as unused."""
    differences: list[Difference] = []
    channels: dict[str, Counts] = {}
    present = {*left.channels, *right.channels}
    for channel in (*(c for c in CHANNELS if c in present), *sorted(present.difference(CHANNELS))):
        ours, theirs = left.channels.get(channel, {}), right.channels.get(channel, {})
        names = (*ours, *(name for name in theirs if name not in ours))
        found = [find(channel, name, ours, theirs, room) for name in names]
        differences += [difference for difference in found if difference is not None]
        both = [name for name in ours if name in theirs]
        channels[channel] = Counts(
            expected=len(ours),
            compared=sum(1 for name in both if np.size(ours[name]) or np.size(theirs[name])),
            missing=len(ours) - len(both),
            extra=len(theirs) - len(both),
            differing=sum(1 for d in found if d is not None and d.reason not in ("missing", "extra")),
        )
    return Comparison(
        left=left.who,
        right=right.who,
        channels=_with_errors(channels, left.error, right.error),
        differences=(*_error_difference(left.error, right.error), *differences),
    )


def _with_errors(channels: Mapping[str, Counts], left: Failure | None, right: Failure | None) -> dict[str, Counts]:
    """Counts in which an error is a value of "outputs": compared if both sides have one, else missing or extra."""
    if left is None and right is None:
        return dict(channels)
    old = channels.get("outputs", Counts(expected=0, compared=0, missing=0, extra=0, differing=0))
    both = left is not None and right is not None
    new = Counts(
        expected=old.expected + (left is not None),
        compared=old.compared + both,
        missing=old.missing + (right is None),
        extra=old.extra + (left is None),
        differing=old.differing + (both and not _alike(left, right)),
    )
    return {**channels, "outputs": new}


def _alike(left: Failure | None, right: Failure | None) -> bool:
    """Whether two failures are the same error; the traceback does not count."""
    return left is not None and right is not None and (left.kind, left.message) == (right.kind, right.message)


def _error_difference(left: Failure | None, right: Failure | None) -> tuple[Difference, ...]:
    if _alike(left, right) or (left is None and right is None):
        return ()
    ours, theirs = (f"{e.kind}: {e.message}" if e else "no error" for e in (left, right))
    return (Difference(channel="outputs", name="error", reason="error", left=ours, right=theirs),)
