"""Where a diverging case diverges: the module, the step, and what is cause and what consequence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from harness.case import Case
from harness.causes import Forced
from harness.comparison import Comparison
from harness.locate import locate
from harness.observation import Observation
from harness.oracle import NO_ROUNDING, in_float64, widened
from harness.pair import NoOracle, Pair
from harness.steps import first_step, stepping
from harness.untouched import digests, disturbed
from harness.verdict import Ending, Rung, Verdict

__all__ = ["with_place"]

BEFORE_STEPS = ("gradients", "grad")
"""Programs that give the gradients that a train step begins with."""

_NOT_RUN = ("structure", "shardings", "resources", "disk", "graph")


def with_place(pair: Pair, case: Case, verdict: Verdict, runs: tuple[Observation, Observation]) -> Verdict:
    """`verdict`, if the values of its runs diverge, with module, step and causes.

    The module is where the divergence first shows. A forced run that leaves one cause has the last word if that lies
    elsewhere; a cause around that module, whose own code hands it other values, does not.
    What both sides compile must be the same before and after they were watched, else nothing that was seen counts.
    """
    parity = verdict.parity
    if verdict.rung is not Rung.DIVERGED or parity is None or parity.first is None:
        return verdict
    before = digests(pair, case)
    module = locate(pair, case, parity)
    step = first_step(pair, case, parity, runs[0])
    exactly = NO_ROUNDING in verdict.why_not_higher
    forced = _forced(pair, case, parity, step, partial(_exactly, pair) if exactly else None)
    if reason := disturbed(pair, case, before, runs):
        return replace(verdict, ending=Ending.ERROR, detail="; ".join(x for x in (verdict.detail, reason) if x))
    return replace(verdict, module=_agreed(module, forced.certain if forced else ""), step=step, forced=forced)


def _agreed(module: str, cause: str) -> str:
    inside = cause in ("", module) or module.startswith(f"{cause}/") or cause == "model"
    return module if inside and module else cause


def _forced(
    pair: Pair,
    case: Case,
    parity: Comparison,
    step: tuple[int, int] | None,
    wide: Callable[[Case], Forced] | None,
) -> Forced | None:
    """A forced run of as little as diverges: the gradients alone, or up to the first step that differs.

    wide: how it is run instead, if not as it is. None where what differs is no value that a module could be handed.
    """
    from harness.forcing import forced

    first = parity.first
    if first is None or first.reason in ("claim", "error") or first.channel in _NOT_RUN:
        return None
    smaller = [stepping(case, step[0])] if step and step[0] < step[1] else [case]
    if any(each.channel == "gradients" and each.allowed_by is None for each in parity.differences):
        offers = [pair.sides[run.side].programs for run in case.runs]
        names = [name for name in BEFORE_STEPS if all(name in offer for offer in offers)]
        if names and case.runs[0].program == case.runs[1].program == "train":
            left, right = (replace(run, program=names[0]) for run in case.runs)
            smaller.insert(0, replace(case, runs=(left, right)))
    found = Forced()
    for each in smaller:
        found = wide(each) if wide else forced(pair, each)
        if found.causes:
            break
    return found


def _exactly(pair: Pair, case: Case) -> Forced:
    """A forced run in float64: what differs there was seen to be no rounding, and nothing else differs."""
    from harness.forcing import forced

    try:
        exact = widened(pair, case)
        with in_float64():
            found = forced(pair, exact)
    except NoOracle as problem:
        found = Forced(note=str(problem))
    return _without_roundings(found) if found.causes else forced(pair, case)


def _without_roundings(found: Forced) -> Forced:
    """`found` in float64, where what takes less than half of the digits is rounding as long as something takes more.

    Of a value whose true value is 0 any rounding is all of it; beside the largest value of its kind it is none.
    """
    half = float(np.sqrt(np.finfo(np.float64).eps))
    large = [cause.size > half * cause.top for cause in found.causes]
    if not any(large):
        return found
    causes = (replace(each, rounding=not more) for each, more in zip(found.causes, large, strict=True))
    return replace(found, causes=tuple(causes))
