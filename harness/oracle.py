"""Runs of an oracle: both sides once more in float64, and against themselves, for `harness.noise` to decide from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from harness import noise
from harness.case import Case
from harness.difference import Difference, describe
from harness.floors import WAYS
from harness.noise import Measured
from harness.observation import Observation
from harness.observe import observe
from harness.pair import NoOracle, Pair
from harness.replay import Keys, keys_of
from harness.verdict import Ending, Rung, Verdict

__all__ = ["NO_ROUNDING", "in_float64", "widened", "with_noise"]

Runs = tuple[Observation, Observation]

UNIT = "one unit in the last place"

NO_ROUNDING = "no rounding does"
"""How a reason ends that was seen in float64."""


def with_noise(pair: Pair, case: Case, verdict: Verdict, runs: Runs) -> Verdict:
    """`verdict`, and WITHIN NOISE instead of DIVERGED if that is all that the two runs differ by.

    Whatever came of it is said in `why_not_higher`.
    """
    if verdict.rung is not Rung.DIVERGED or verdict.parity is None or verdict.first is None:
        return verdict
    found = noise.measurable(verdict.parity)
    if not isinstance(found, tuple):
        return _still(verdict, found)
    if not found:  # what diverged is no value: a graph
        return verdict
    try:
        measured = _measured(pair, case, runs, found)
    except NoOracle as problem:
        return _still(verdict, str(problem))
    return _judged(verdict, measured)


def _judged(verdict: Verdict, measured: tuple[Measured, ...]) -> Verdict:
    worst = noise.worst(measured)
    words = (
        f"in float64 the difference shrinks as roundings do, and the errors against float64 are {worst.errors[0]:.3g} "
        f"and {worst.errors[1]:.3g}, beside {worst.floor:.3g} of {worst.floor_of} ({worst.channel}/{worst.name}, the "
        f"worst of {len(measured)})"
    )
    verdict = replace(verdict, noise=measured)
    if not all(each.within for each in measured):
        return _still(verdict, words)
    first, left = verdict.first, next((drift.first for drift in verdict.drift if drift.first is not None), None)
    held = verdict.ending is None and left is None
    return replace(
        verdict,
        rung=Rung.WITHIN_NOISE,
        first=None,
        module="",
        ending=Ending.DRIFTED if left is not None and verdict.ending is None else verdict.ending,
        moved="nobody" if held else verdict.moved,
        detail="" if held else verdict.detail,
        why_not_higher=f"not BITWISE: {describe(first)}; {words}" if first else words,
    )


def _still(verdict: Verdict, reason: str) -> Verdict:
    return replace(verdict, why_not_higher=f"{verdict.why_not_higher}; not WITHIN NOISE: {reason}")


def _measured(pair: Pair, case: Case, runs: Runs, found: tuple[Difference, ...]) -> tuple[Measured, ...]:
    """Every difference measured. Raises NoOracle with a sentence if float64 does not tell or does not agree."""
    if reason := noise.beyond(*runs, found, case.precision):
        raise NoOracle(reason)
    keys = keys_of((pair.sides[case.runs[0].side], pair.sides[case.runs[1].side]), case)
    exact = _exact(pair, case, keys)
    for each in found:
        _same_function(case, runs, exact, each)
    others: list[list[Observation]] = [[], []]
    measured = tuple(_measure(case, runs, exact, others, each) for each in found)
    # A larger floor only ever allows more: as soon as all errors are alike, no further run could change the answer.
    for words, way in WAYS.items():
        if all(each.within for each in measured):
            break
        for more, run, own, with_keys in zip(others, case.runs, runs, keys, strict=True):
            with with_keys():
                more += way(pair, case, run, own, found)
        measured = tuple(_measure(case, runs, exact, others, each, f"each side and itself {words}") for each in found)
    return measured


def _same_function(case: Case, runs: Runs, exact: Runs, each: Difference) -> None:
    """Raises NoOracle unless the difference shrinks in float64 as a rounding would."""
    place = f"{each.channel}/{each.name}"
    values = [run.channels.get(each.channel, {}).get(each.name) for run in exact]
    for value, run in zip(values, exact, strict=True):
        if value is None or value.dtype != np.float64:
            kind = "absent" if value is None else value.dtype
            raise NoOracle(f"{place} is {kind} in {run.who}'s float64 run: a dtype is fixed in the code")
    apart = noise.gap(*runs, each.channel, each.name)
    still = noise.gap(*exact, each.channel, each.name)
    dtype = np.asarray(runs[0].channels[each.channel][each.name]).dtype
    coarse = np.dtype(case.precision) if case.precision else dtype
    declared = [allowance for allowance in case.allow if allowance.covers(each.channel, each.name)]
    top = noise.largest(np.asarray(values[0]))
    if declared and still <= declared[0].atol + declared[0].rtol * top:
        return  # a real difference, but one that the scenario grants; what is beyond it is rounding
    if not (noise.shrunk(apart, still, dtype) or noise.shrunk(apart, still, coarse)):
        raise NoOracle(f"{place} differs by {still:.3g} in float64 too, of {apart:.3g}: {NO_ROUNDING}")


def _measure(
    case: Case, runs: Runs, exact: Runs, others: list[list[Observation]], each: Difference, floor_of: str = UNIT
) -> Measured:
    place = each.channel, each.name
    value = np.asarray(runs[0].channels[each.channel][each.name])
    own = [[noise.gap(run, other, *place) for other in more] for run, more in zip(runs, others, strict=True)]
    step = noise.spacing(value)
    return Measured(
        channel=each.channel,
        name=each.name,
        apart=noise.gap(*runs, *place),
        exact=noise.gap(*exact, *place),
        errors=(noise.gap(runs[0], exact[0], *place), noise.gap(runs[1], exact[0], *place)),
        floor_of=floor_of,
        floor=max([step, *(size for sizes in own for size in sizes if np.isfinite(size))]),
        room=noise.room(np.dtype(case.precision) if case.precision else value.dtype),
    )


def _exact(pair: Pair, case: Case, keys: Keys) -> Runs:
    """Both runs in float64, on the same weights and inputs. Raises NoOracle if one of them fails.

    keys: what each is made in, so that both draw what they drew before.
    """
    wide = widened(pair, case)
    found = []
    with in_float64():
        for run, with_keys in zip(wide.runs, keys, strict=True):
            with with_keys():
                seen = observe(pair.sides[run.side], wide, run)
            if seen.error:
                raise NoOracle(f"{run.side}'s float64 run failed: {seen.error.kind}: {seen.error.message}")
            found.append(seen)
    return found[0], found[1]


def widened(pair: Pair, case: Case) -> Case:
    """`case` with weights and inputs in float64, to be run `in_float64`. Raises NoOracle if the pair has no such."""
    runs = [replace(run, settings=pair.exact({**case.settings, **run.settings})) for run in case.runs]
    weights, inputs = noise.widened(case.weights), noise.widened(case.inputs)
    return replace(case, weights=weights, inputs=inputs, runs=(runs[0], runs[1]), precision="")


@contextlib.contextmanager
def in_float64() -> Iterator[None]:
    """What the runs of a widened case are made in."""
    import jax

    from harness.uncast import uncast

    before = jax.config.read("jax_enable_x64")
    # For all threads: callbacks run in one of their own, which would hand float32 back.
    jax.config.update("jax_enable_x64", True)
    try:
        with uncast():
            yield
    finally:
        jax.config.update("jax_enable_x64", before)
