"""Whether two values differ as roundings do: decided from float64 runs and from what moves a side against itself.

NumPy only. No tolerance is set by hand. A value is within noise if both of these hold:

It is the same function. Computed in float64, the two sides' difference shrinks as roundings shrink, by the ratio of the
two machine epsilons (2**-29 from float32). A difference in meaning (another constant, a missing term, another order of
layers) stays as it is, however small. Halfway between the two, on a scale of powers, is where the line is drawn.

It is as exact. Held against the ruler's float64 values, the two errors differ by no more than a side moves against
itself when nothing but roundings change: compiled against eager, and with every weight moved by one unit in its last
place. A side that drops to a narrower dtype errs by more. The measure is absolute, so that leaves whose true value is 0
are judged like all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from harness.comparison import Comparison
from harness.difference import Difference
from harness.distance import family
from harness.observation import Observation, Values

__all__ = ["Measured", "beyond", "gap", "measurable", "moved", "shrunk", "spacing", "widened", "worst"]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One value that differs, measured; all numbers absolute.

    apart: largest |left - right|. exact: the same of both sides' float64 runs.
    errors: largest |side - left's float64 run|, left and right. floor: the most that a side moved against itself.
    """

    channel: str
    name: str
    apart: float
    exact: float
    errors: tuple[float, float]
    floor: float

    @property
    def within(self) -> bool:
        """Whether the errors are alike. That float64 makes the difference shrink has been seen before."""
        return abs(self.errors[0] - self.errors[1]) <= self.floor


def measurable(parity: Comparison) -> tuple[Difference, ...] | str:
    """The differences that nothing allows, if all of them are of real floats; else why noise cannot explain them."""
    found = tuple(each for each in parity.differences if each.allowed_by is None)
    if other := next((each for each in found if each.reason != "value" or each.ulp < 0), None):
        return (
            f"{other.channel}/{other.name} differs in {other.reason if other.reason != 'value' else 'a whole number'}"
        )
    return found


def beyond(left: Observation, right: Observation, found: Sequence[Difference]) -> str:
    """Why no float64 run is needed: a difference takes more than half of the digits of its channel's largest value.

    "" if none does. Of the channel and not of the value itself, whose true value may be 0.
    """
    for each in found:
        values = left.channels[each.channel]
        half = float(np.sqrt(float(ml_dtypes.finfo(np.asarray(values[each.name]).dtype).eps)))
        largest = max(_largest(value) for value in values.values() if _real(value))
        if (apart := gap(left, right, each.channel, each.name)) > half * largest:
            return f"{each.channel}/{each.name} differs by {apart:.3g} where nothing is larger than {largest:.3g}"
    return ""


def gap(left: Observation, right: Observation, channel: str, name: str) -> float:
    """Largest |left - right| of a value, in float64. NaN if a run lacks it or has another shape."""
    a, b = (run.channels.get(channel, {}).get(name) for run in (left, right))
    if a is None or b is None or a.shape != b.shape:
        return float("nan")
    apart = np.abs(np.asarray(a).astype(np.float64) - np.asarray(b).astype(np.float64))
    return float(np.max(apart[np.isfinite(apart)], initial=0.0))


def shrunk(apart: float, exact: float, dtype: np.dtype) -> bool:
    """Whether the difference `apart` in `dtype` became `exact` in float64 as a rounding would; see above."""
    ratio = float(np.finfo(np.float64).eps) / float(ml_dtypes.finfo(dtype).eps)
    return exact <= apart * float(np.sqrt(ratio))


def spacing(value: np.ndarray) -> float:
    """One unit in the last place of the largest element: what no value of this dtype can be told apart by."""
    return _largest(value) * float(ml_dtypes.finfo(value.dtype).eps)


def _largest(value: np.ndarray) -> float:
    sizes = np.abs(np.asarray(value).astype(np.float64))
    return float(np.max(sizes[np.isfinite(sizes)], initial=0.0))


def widened(values: Values) -> dict[str, np.ndarray]:
    """Every real float as the same number in float64."""
    return {name: array.astype(np.float64) if _real(array) else array for name, array in values.items()}


def moved(values: Values) -> dict[str, np.ndarray]:
    """Every element of every real float moved to a neighbour, up or down by its place."""
    return {name: _moved(array) if _real(array) else array for name, array in values.items()}


def _moved(array: np.ndarray) -> np.ndarray:
    # Multiplicative hashing: neighbours in the array move in ways that have nothing to do with each other.
    up = (np.arange(array.size, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(63)
    aims = np.where(up.reshape(array.shape) == 1, np.inf, -np.inf).astype(array.dtype)
    return np.nextafter(array, aims)


def worst(measured: Sequence[Measured]) -> Measured:
    """The value whose errors are least alike, against its floor."""
    return max(measured, key=lambda each: abs(each.errors[0] - each.errors[1]) / (each.floor or 1.0))


def _real(array: np.ndarray) -> bool:
    return family(array.dtype) == "float"
