"""A side's train step against the other's: steady step time, host dispatch, compiled bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.bench.pairs import Ratio, alternate
from harness.case import Case
from harness.pair import Pair, Stepper

__all__ = ["StepBench", "bench_steps"]

ROUNDS, CALLS = 15, 10


@dataclass(frozen=True, kw_only=True)
class StepBench:
    """Ratios are the second side's over the first's. bytes: size -> (first, second)."""

    case: str
    sides: tuple[str, str]
    step: Ratio
    dispatch: Ratio
    noise: Ratio
    bytes: Mapping[str, tuple[int, int]]


def bench_steps(pair: Pair, case: Case) -> StepBench:
    """Time both sides of `case` in turn. `noise` is the first side against itself: what equal looks like here."""
    names = case.runs[0].side, case.runs[1].side
    first, second = (pair.sides[name].stepper(case) for name in names)
    twin = pair.sides[names[0]].stepper(case)
    return StepBench(
        case=case.name,
        sides=names,
        step=alternate(_steps(first), _steps(second), ROUNDS),
        dispatch=alternate(_dispatches(first), _dispatches(second), ROUNDS),
        noise=alternate(_steps(first), _steps(twin), ROUNDS),
        bytes={size: (first.compiled[size], second.compiled[size]) for size in first.compiled},
    )


def _steps(stepper: Stepper) -> Callable[[], float]:
    """Seconds a step, waiting for each."""
    import jax

    def measure() -> float:
        start = time.perf_counter()
        for _ in range(CALLS):
            jax.block_until_ready(stepper.once())
        return (time.perf_counter() - start) / CALLS

    return measure


def _dispatches(stepper: Stepper) -> Callable[[], float]:
    """Seconds until the call returns, not waiting for the result inside the measurement."""
    import jax

    def measure() -> float:
        total = 0.0
        for _ in range(CALLS):
            start = time.perf_counter()
            result = stepper.once()
            total += time.perf_counter() - start
            jax.block_until_ready(result)
        return total / CALLS

    return measure
