"""The least that still shows a divergence: an earlier program, or fewer steps of the same one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from harness.allowance import Allowance
from harness.case import Case
from harness.comparison import compare
from harness.difference import Difference
from harness.observe import observe
from harness.pair import Pair
from harness.scenario import Run
from harness.steps import STEPS
from harness.verdict import Rung, Verdict

__all__ = ["ORDER", "Reduced", "located", "smallest"]

ORDER = ("forward", "forward_train", "grad", "gradients", "train")
"""Programs of which each does more than those before it. Others stand for themselves."""

_NO_VALUES = ("claim", "error")


@dataclass(frozen=True, kw_only=True)
class Reduced:
    """A case, maybe with smaller runs than it was asked for; its verdict; and what was left out, or "".

    first: the value at which the runs part; None if no value differs.
    """

    case: Case
    verdict: Verdict
    first: Difference | None
    note: str


def smallest(
    pair: Pair,
    whole: Reduced,
    allowances: Callable[[str], tuple[Allowance, ...]],
    judge: Callable[[Pair, Case], Verdict],
) -> Reduced:
    """The first candidate that still diverges in the way of `whole`, the case as it was asked for; or that itself.

    allowances: program -> what its scenarios allow. That, and `judge`, which walks the whole line, keep a difference
    that is granted to an earlier program, or is within its noise, from being taken for the divergence. An error must
    stay the same error; a claim is only made by its own program.
    """
    if whole.first is None or whole.first.reason == "claim":
        return whole
    for runs, note in _candidates(pair, whole.case):
        own = runs[0].program == whole.case.runs[0].program
        allow = whole.case.allow if own else (*whole.case.allow, *allowances(runs[0].program))
        case = replace(whole.case, runs=runs, allow=allow)
        found = _first(pair, case)
        if found is None or not _alike(found, whole.first):
            continue
        verdict = judge(pair, case)
        if verdict.rung is Rung.DIVERGED and verdict.first is not None:
            return Reduced(case=case, verdict=verdict, first=verdict.first, note=note)
    return whole


def located(pair: Pair, case: Case, program: str) -> str:
    """The first module whose output differs, as `harness.locate` finds it; "" if `program` cannot tell."""
    if any(program not in pair.sides[run.side].programs for run in case.runs):
        return ""
    left, right = (replace(run, program=program) for run in case.runs)
    found = _first(pair, replace(case, runs=(left, right)))
    return found.name if found is not None and found.channel == "intermediates" else ""


def _candidates(pair: Pair, case: Case) -> Iterator[tuple[tuple[Run, Run], str]]:
    """Smaller runs than the case's own, smallest first, and what makes them smaller."""
    left, right = case.runs
    if left.program != right.program or left.program not in ORDER:
        return
    for program in ORDER[: ORDER.index(left.program)]:
        if all(program in pair.sides[run.side].programs for run in case.runs):
            note = f"The case runs {left.program!r}; {program!r} shows the divergence already."
            yield (replace(left, program=program), replace(right, program=program)), note
    steps = [{**case.settings, **run.settings}.get(STEPS) for run in case.runs]
    if type(steps[0]) is int and steps[0] == steps[1]:
        fewer = 1
        while fewer < steps[0]:
            note = f"The case makes {steps[0]} steps; it diverges within {fewer} already."
            yield (_stepping(left, fewer), _stepping(right, fewer)), note
            fewer *= 2


def _stepping(run: Run, steps: int) -> Run:
    return replace(run, settings={**run.settings, STEPS: steps})


def _first(pair: Pair, case: Case) -> Difference | None:
    left, right = (observe(pair.sides[run.side], case, run) for run in case.runs)
    return compare(left, right, case.allow).first


def _alike(found: Difference, first: Difference) -> bool:
    if first.reason == "error":
        return found.reason == "error" and (found.left, found.right) == (first.left, first.right)
    return found.reason not in _NO_VALUES
