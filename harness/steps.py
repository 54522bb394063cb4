"""The step of a trajectory at which two runs first differ, from the names of what was seen, or from shorter runs."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from harness.case import Case
from harness.comparison import Comparison, compare
from harness.observation import Observation
from harness.pair import Pair
from harness.replay import observed
from harness.scenario import Run

__all__ = ["STEPS", "first_step", "named_step", "stepping"]

STEPS = "steps"
"""The setting that says how often a program repeats itself, where a program knows it."""

_STEP = re.compile(r"step[ _]?(\d+)/")

_AT_THE_END = ("updates", "state")


def named_step(seen: Observation, parity: Comparison) -> tuple[int, int] | None:
    """(step, of how many), counted from 1: the first whose values differ, as names tell ("step0/loss", "step 1/w").

    None if no value that differs is called by a step.
    """
    known = {number for values in seen.channels.values() for name in values for number in _numbers(name)}
    found = [number for each in parity.differences if each.allowed_by is None for number in _numbers(each.name)]
    return (min(found) - min(known) + 1, max(known) - min(known) + 1) if known and found else None


def _numbers(name: str) -> list[int]:
    match = _STEP.match(name)
    return [int(match[1])] if match else []


def first_step(pair: Pair, case: Case, parity: Comparison, seen: Observation) -> tuple[int, int] | None:
    """As `named_step`; where values are seen after the last step only, from runs that make fewer.

    None where there is one step only, or no number of steps that could be made smaller.
    """
    named = named_step(seen, parity)
    count = _count(case)
    if count < 2:
        return named if named and named[1] > 1 else None
    differing = [each for each in parity.differences if each.allowed_by is None]
    unnamed = {each.channel for each in differing if not _numbers(each.name)}
    if unnamed - set(_AT_THE_END):
        return 1, count  # what is seen once, before or at the first step
    last = named[0] if named else count
    return (_bisected(pair, case, last) if unnamed else last), count


def _bisected(pair: Pair, case: Case, last: int) -> int:
    """The least number of steps after which the runs differ, if those that differ stay so."""
    low, high = 1, last
    while low < high:
        middle = (low + high) // 2
        shorter = stepping(case, middle)
        sides = pair.sides[case.runs[0].side], pair.sides[case.runs[1].side]
        differ = compare(*observed(sides, shorter), case.allow).first is not None
        low, high = (low, middle) if differ else (middle + 1, high)
    return low


def _count(case: Case) -> int:
    counts: list[Any] = [{**case.settings, **run.settings}.get(STEPS) for run in case.runs]
    return counts[0] if type(counts[0]) is int and counts[0] == counts[1] else 0


def stepping(case: Case, steps: int) -> Case:
    """`case` with runs of so many steps."""

    def shorter(run: Run) -> Run:
        return replace(run, settings={**run.settings, STEPS: steps})

    return replace(case, runs=(shorter(case.runs[0]), shorter(case.runs[1])))
