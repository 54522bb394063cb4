"""One run made once more where nothing but roundings may change: what it moves by is the least its noise can be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from harness import noise
from harness.case import Case
from harness.difference import Difference
from harness.observation import Observation
from harness.observe import observe
from harness.pair import Pair
from harness.scenario import Run

__all__ = ["WAYS", "eager", "moved", "reordered"]

SUMMED = ("loss", "gradients", "updates")
"""Channels that hold sums over the examples of a batch, whatever their order."""

Way = Callable[[Pair, Case, Run, Observation, Sequence[Difference]], list[Observation]]


def moved(pair: Pair, case: Case, run: Run, own: Observation, found: Sequence[Difference]) -> list[Observation]:
    """`run` with every weight moved by one unit in its last place, twice."""
    side = pair.sides[run.side]
    seen = (observe(side, replace(case, weights=noise.moved(case.weights, seed)), run) for seed in (1, 2))
    return [each for each in seen if each.error is None]


def reordered(pair: Pair, case: Case, run: Run, own: Observation, found: Sequence[Difference]) -> list[Observation]:
    """`run` with the examples of the batch in another order, as far as it sums over them.

    Left out if more than roundings moved: then the order had a meaning after all, and says nothing of noise.
    """
    inputs = pair.reordered({**case.settings, **run.settings}, case.inputs)
    if not inputs:
        return []
    seen = observe(pair.sides[run.side], replace(case, inputs=inputs), run)
    seen = replace(seen, channels={name: seen.channels[name] for name in SUMMED if name in seen.channels})
    summed = [each for each in found if each.channel in SUMMED]
    return [] if seen.error or noise.beyond(own, seen, summed, case.precision) else [seen]


def eager(pair: Pair, case: Case, run: Run, own: Observation, found: Sequence[Difference]) -> list[Observation]:
    """`run` operation by operation, nothing fused."""
    import jax

    with jax.disable_jit():
        seen = observe(pair.sides[run.side], case, run)
    return [] if seen.error else [seen]


WAYS: dict[str, Way] = {
    "with weights moved by a unit in the last place": moved,
    "with the batch in another order": reordered,
    "compiled and not": eager,
}
"""In words -> the runs it makes; the cheapest first."""
