"""Whether two values differ as roundings do: decided from float64 runs and from what moves a side against itself.

NumPy only. No tolerance is set by hand. A value is within noise if both of these hold:

It is the same function. Computed in float64, the two sides' difference shrinks as roundings shrink, by the ratio of the
two machine epsilons (2**-29 from float32). A difference in meaning (another constant, a missing term, another order of
layers) stays as it is, however small. Halfway between the two, on a scale of powers, is where the line is drawn.

It is as exact. Held against the ruler's float64 values, neither side errs by more than the other, than one unit in its
last place, or than the sides move against themselves when nothing but roundings change (twice with every weight moved
by one unit in its last place, with the examples of a batch in another order, compiled against eager: one after the
other, as far as it is needed; see `harness.floors`). More is, once again, halfway to what
the next narrower dtype would do: 90 times in float32, 4 times in bfloat16. The measure is absolute, so that leaves
whose true value is 0 are judged like all others.
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

__all__ = [
    "Measured",
    "beyond",
    "gap",
    "largest",
    "measurable",
    "moved",
    "room",
    "shrunk",
    "spacing",
    "widened",
    "worst",
]

NARROWER = {"float64": "float32", "float32": "float16", "float16": "float8_e4m3fn", "bfloat16": "float8_e4m3fn"}
"""dtype -> the next narrower one that anybody computes in."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One value that differs, measured; all numbers absolute.

    apart: largest |left - right|. exact: the same of both sides' float64 runs.
    errors: largest |side - left's float64 run|, left and right.
    floor: one unit in the last place, or the most that a side moved against itself; floor_of: which, in words.
    room: how many times as large as the other error, or the floor, an error may be.
    """

    channel: str
    name: str
    apart: float
    exact: float
    errors: tuple[float, float]
    floor: float
    floor_of: str
    room: float

    @property
    def excess(self) -> float:
        """The larger error over what it is held against; up to `room` the errors are alike."""
        low, high = sorted(self.errors)
        return high / max(low, self.floor) if high else 0.0

    @property
    def within(self) -> bool:
        """Whether the errors are alike. That float64 makes the difference shrink has been seen before."""
        return self.excess <= self.room


def measurable(parity: Comparison) -> tuple[Difference, ...] | str:
    """The differences that nothing allows, if all of them are of real floats; else why noise cannot explain them."""
    found = tuple(each for each in parity.differences if each.allowed_by is None)
    if other := next((each for each in found if each.reason != "value" or each.ulp < 0), None):
        return (
            f"{other.channel}/{other.name} differs in {other.reason if other.reason != 'value' else 'a whole number'}"
        )
    return found


def beyond(left: Observation, right: Observation, found: Sequence[Difference], precision: str) -> str:
    """Why no float64 run is needed: a difference takes more than half of the digits of its channel's largest value.

    "" if none does. Of the channel and not of the value itself, whose true value may be 0. precision: the dtype that
    is computed in, "" for that of the value.
    """
    for each in found:
        values = left.channels[each.channel]
        dtype = np.asarray(values[each.name]).dtype
        half = float(np.sqrt(max(_epsilon(dtype), _epsilon(np.dtype(precision or dtype)))))
        top = max(largest(value) for value in values.values() if _real(value))
        if (apart := gap(left, right, each.channel, each.name)) > half * top:
            return f"{each.channel}/{each.name} differs by {apart:.3g} where nothing is larger than {top:.3g}"
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
    ratio = _epsilon(np.dtype(np.float64)) / _epsilon(dtype)
    return exact <= apart * float(np.sqrt(ratio))


def spacing(value: np.ndarray) -> float:
    """One unit in the last place of the largest element: what no value of this dtype can be told apart by."""
    return largest(value) * _epsilon(value.dtype)


def largest(value: np.ndarray) -> float:
    """The largest finite |element|."""
    sizes = np.abs(np.asarray(value).astype(np.float64))
    return float(np.max(sizes[np.isfinite(sizes)], initial=0.0))


def widened(values: Values) -> dict[str, np.ndarray]:
    """Every real float as the same number in float64."""
    return {name: array.astype(np.float64) if _real(array) else array for name, array in values.items()}


def moved(values: Values, seed: int) -> dict[str, np.ndarray]:
    """Every element of every real float moved to a neighbour, up or down by chance."""
    chance = np.random.default_rng(seed)
    return {name: _moved(array, chance) if _real(array) else array for name, array in values.items()}


def _moved(array: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    up = chance.integers(0, 2, array.size)
    aims = np.where(up.reshape(array.shape) == 1, np.inf, -np.inf).astype(array.dtype)
    return np.nextafter(array, aims)


def worst(measured: Sequence[Measured]) -> Measured:
    """The value whose errors are least alike."""
    return max(measured, key=lambda each: each.excess / each.room)


def room(dtype: np.dtype) -> float:
    """Halfway, on a scale of powers, from `dtype` to the next narrower one: the root of their epsilons' ratio."""
    narrower = NARROWER.get(dtype.name, "float8_e5m2")
    return float(np.sqrt(_epsilon(np.dtype(narrower)) / _epsilon(dtype)))


def _epsilon(dtype: np.dtype) -> float:
    return float(ml_dtypes.finfo(dtype).eps)


def _real(array: np.ndarray) -> bool:
    return family(array.dtype) == "float"
