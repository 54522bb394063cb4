"""The second ruler: how far a value may drift from a golden. NumPy only.

Parity is exact, within one process; a golden crosses machines and versions. The room is for values of real floats
only: integers, complex numbers, text, claims and structure are exact here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from glob import escape

import numpy as np

from harness.allowance import Allowance
from harness.comparison import Comparison, compare_within
from harness.observation import Observation

__all__ = [
    "DRIFT",
    "DriftRule",
    "Place",
    "allowances",
    "drift_allowance",
    "drift_compare",
    "drift_compare_scaled",
    "scale",
]

Place = tuple[str, str]
"""Channel and name of one array."""


@dataclass(frozen=True, kw_only=True)
class DriftRule:
    """|a-b| <= rtol*max(|a|,|b|) + atol_of_scale*max|golden array|, element by element.

    The second part is there because a sum that cancels keeps the error of what was summed, not of what is left.
    """

    rtol: float
    atol_of_scale: float
    because: str


# Seen between jax 0.10.2 with Python 3.11 and jax 0.12.0.1 with Python 3.13, same machine, quick cases: float32 stays
# within these rules with room to spare; bfloat16 moves by up to 0.0020 in gradients of up to 0.15. Other machines may
# differ more: measure, then change the table.
DRIFT: Mapping[str, DriftRule] = {
    "float64": DriftRule(rtol=1e-12, atol_of_scale=1e-12, because="another compiler sums float64 in another order"),
    "float32": DriftRule(
        rtol=2e-5,
        atol_of_scale=1e-4,
        because="another compiler sums float32 in another order; held against float64, leaves whose sums cancel are "
        "already wrong by up to 2.4e-5 of their largest element, on either side of the comparison",
    ),
    "float16": DriftRule(rtol=1e-2, atol_of_scale=1e-2, because="another compiler rounds float16 at other places"),
    "bfloat16": DriftRule(rtol=5e-2, atol_of_scale=5e-2, because="another compiler rounds bfloat16 at other places"),
    "float8_e4m3fn": DriftRule(rtol=2e-1, atol_of_scale=2e-1, because="another compiler rounds float8 elsewhere"),
    "float8_e5m2": DriftRule(rtol=3e-1, atol_of_scale=3e-1, because="another compiler rounds float8 elsewhere"),
}
"""dtype name -> rule. A dtype that is not here may not drift at all."""


@np.errstate(all="ignore")  # ml_dtypes warns when it looks at some NaNs
def scale(array: np.ndarray) -> float:
    """The largest finite |element| of a float array, 0.0 if there is none."""
    flat = np.asarray(array).reshape(-1)
    finite = flat[np.isfinite(flat)]
    return max(abs(float(finite.max())), abs(float(finite.min()))) if finite.size else 0.0


def drift_allowance(pattern: str, dtype: np.dtype, largest: float, precision: str) -> Allowance | None:
    """The room of an array of `dtype` whose largest |element| in the golden is `largest`; None if it must be exact.

    `precision` is what the run computed in: float32 weights that bfloat16 steps made drift as bfloat16 does.
    """
    if dtype.name not in DRIFT:
        return None
    rule = max(DRIFT[dtype.name], DRIFT.get(precision, DRIFT[dtype.name]), key=lambda each: each.rtol)
    return Allowance(pattern=pattern, because=rule.because, rtol=rule.rtol, atol=rule.atol_of_scale * largest)


def allowances(observation: Observation) -> tuple[Allowance, ...]:
    """One allowance for each array of a golden that may drift, in forward order; `observation` is the golden."""
    return tuple(_rooms(observation, {}, observation.precision).values())


def drift_compare(golden: Observation, observation: Observation) -> Comparison:
    """Compares an observation with its golden (left) within `DRIFT`. Nothing counts as unused."""
    return drift_compare_scaled(golden, observation, {})


def drift_compare_scaled(golden: Observation, observation: Observation, scales: Mapping[Place, float]) -> Comparison:
    """As `drift_compare`; `scales` gives the largest |element| of arrays of which `golden` holds a sample only."""
    rooms = _rooms(golden, scales, observation.precision)

    def room(channel: str, name: str) -> Allowance | None:
        return rooms.get((channel, name))

    return compare_within(golden, observation, room)


def _rooms(golden: Observation, scales: Mapping[Place, float], precision: str) -> dict[Place, Allowance]:
    rooms = {}
    for channel, values in golden.channels.items():
        for name, value in values.items():
            array = np.asarray(value)
            if array.dtype.name not in DRIFT:
                continue
            largest = scales[channel, name] if (channel, name) in scales else scale(array)
            allowance = drift_allowance(escape(f"{channel}/{name}"), array.dtype, largest, precision)
            if allowance is not None:
                rooms[channel, name] = allowance
    return rooms
