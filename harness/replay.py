"""Both runs of a case, the second one with the keys of the first where the case says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from harness.case import Case
from harness.observation import Observation
from harness.observe import observe
from harness.pair import Side

__all__ = ["Keys", "keys_of", "observed"]

Keys = tuple[Callable[[], AbstractContextManager[Any]], Callable[[], AbstractContextManager[Any]]]
"""What the first and the second run of a case are made in."""

PAIRED = "the draws of both sides can be paired"


def observed(sides: tuple[Side, Side], case: Case) -> tuple[Observation, Observation]:
    """Both runs of `case`, observed.

    With draws "replayed" the second is run with the keys of the first: what both did with them is then comparable to
    the last bit. That the draws could be paired is a claim beside the others. With "if any" nothing is claimed, and
    nothing run again, where neither side draws.
    """
    if case.draws == "own":
        return observe(sides[0], case, case.runs[0]), observe(sides[1], case, case.runs[1])
    return _replayed(sides, case)


def _replayed(sides: tuple[Side, Side], case: Case) -> tuple[Observation, Observation]:
    left, right, keys = _recorded(sides, case)
    if left.error or right.error or keys == {}:
        return left, right
    if isinstance(keys, str):
        return _claiming(left, right, f"{PAIRED} ({keys})")
    ours, theirs = _replaying(keys)
    with ours():
        left = observe(sides[0], case, case.runs[0])
    with theirs():
        right = observe(sides[1], case, case.runs[1])
    return _with(left, {PAIRED: np.bool_(True)}), _with(right, {PAIRED: np.bool_(True)})


def keys_of(sides: tuple[Side, Side], case: Case) -> Keys:
    """What each of further runs of `case` is to be made in, so that it draws with the keys that `observed` has it draw
    with; nothing where the draws are its own, or cannot be paired."""
    if case.draws == "own":
        return nullcontext, nullcontext
    keys = _recorded(sides, case)[2]
    return (nullcontext, nullcontext) if isinstance(keys, str) or not keys else _replaying(keys)


def _recorded(sides: tuple[Side, Side], case: Case) -> tuple[Observation, Observation, Mapping[bytes, bytes] | str]:
    """Both runs with keys of their own; and which stand for which, {} if nothing draws and nothing has to."""
    from harness.randomness import paired, recorded

    with recorded() as ours:
        left = observe(sides[0], case, case.runs[0])
    with recorded() as theirs:
        right = observe(sides[1], case, case.runs[1])
    none = case.draws == "if any" and not ours.ran and not theirs.ran
    return left, right, {} if none else paired(ours, theirs)


def _replaying(keys: Mapping[bytes, bytes]) -> Keys:
    from harness.randomness import replayed

    # The ruler looks its own keys up too: what is compiled for a lookup may be rounded in another order than without.
    return partial(replayed, {key: key for key in keys.values()}), partial(replayed, keys)


def _claiming(left: Observation, right: Observation, claim: str) -> tuple[Observation, Observation]:
    """Both observations, with a claim that the second one does not meet."""
    return _with(left, {claim: np.bool_(True)}), _with(right, {claim: np.bool_(False)})


def _with(seen: Observation, claims: Mapping[str, np.bool_]) -> Observation:
    every = {**seen.channels.get("claims", {}), **{name: np.asarray(value) for name, value in claims.items()}}
    return replace(seen, channels={**seen.channels, "claims": every})
