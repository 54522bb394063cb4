"""How far apart two arrays of one shape and dtype are, in blocks, so that no large array is made on the way.

Exactly (all tolerances 0), elements differ when their bytes do: -0.0 is not 0.0, and a NaN equals a NaN of the same
bits alone. With a tolerance both zeros are one number and every NaN equals every NaN. NaN never equals a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from impl.checkpoint.leaves.dtypes import is_floating

__all__ = ["EXACT", "SAME", "Distance", "Tolerance", "distance", "distance_within", "merged"]

BLOCK = 1 << 17
"""Elements that are compared at a time."""


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """An element is let pass within atol + rtol * |left|, or within `ulp` units in the last place of its dtype."""

    rtol: float = 0.0
    atol: float = 0.0
    ulp: int = 0

    @property
    def exact(self) -> bool:
        """Whether bytes have to be equal."""
        return self.rtol == self.atol == self.ulp == 0


EXACT = Tolerance()


@dataclass(frozen=True, kw_only=True)
class Distance:
    """differing: elements beyond the tolerance. max_abs, max_rel: over those. ulp: their largest gap in units of the
    last place of the dtype, -1 where that has no meaning. where: index of the worst element, first: of the first.
    nan: how many of them are NaN on either side. zeros: how many are two zeros of different sign. left, right: the
    worst element on each side, in words."""

    differing: int = 0
    max_abs: float = 0.0
    max_rel: float = 0.0
    ulp: int = -1
    where: tuple[int, ...] = ()
    first: tuple[int, ...] = ()
    nan: int = 0
    zeros: int = 0
    left: str = ""
    right: str = ""


SAME = Distance(ulp=0)


def merged(found: Iterable[Distance]) -> Distance:
    """The distance of two arrays from the distances of their parts, whose indices are those of the whole."""
    apart = [part for part in found if part.differing]
    if not apart:
        return SAME
    worst = max(apart, key=lambda part: part.max_abs)
    return replace(
        worst,
        differing=sum(part.differing for part in apart),
        max_rel=max(part.max_rel for part in apart),
        ulp=max(part.ulp for part in apart),
        first=min(part.first for part in apart),
        nan=sum(part.nan for part in apart),
        zeros=sum(part.zeros for part in apart),
    )


def distance(left: np.ndarray, right: np.ndarray, rtol: float, atol: float) -> Distance:
    """Distance of `right` from `left`, an element differing when |left - right| > atol + rtol * |left|."""
    return distance_within(left, right, Tolerance(rtol=rtol, atol=atol), (0,) * left.ndim)


def distance_within(left: np.ndarray, right: np.ndarray, tolerance: Tolerance, origin: tuple[int, ...]) -> Distance:
    """Distance of two arrays that lie at `origin` in larger ones: the indices found are those in the larger ones."""
    one, two = (np.ascontiguousarray(side).reshape(-1) for side in (left, right))
    parts = []
    for start in range(0, one.size, BLOCK):
        mine, other = one[start : start + BLOCK], two[start : start + BLOCK]
        if np.array_equal(mine.view(np.uint8), other.view(np.uint8)):
            continue
        parts.append(_block(mine, other, tolerance, lambda at: _index(start + at, left.shape, origin)))
    return merged(parts)


def _index(flat: int, shape: tuple[int, ...], origin: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(at) + zero for at, zero in zip(np.unravel_index(flat, shape), origin, strict=True))


def _block(
    left: np.ndarray, right: np.ndarray, tolerance: Tolerance, index: Callable[[int], tuple[int, ...]]
) -> Distance:
    """Distance of two flat blocks; `index` makes an index of a place in them."""
    # float64 holds every value of the smaller dtypes exactly; complex numbers keep their own arithmetic.
    wide = np.complex128 if left.dtype.kind == "c" else np.float64
    one, two = left.astype(wide), right.astype(wide)
    nan = np.isnan(one), np.isnan(two)
    with np.errstate(all="ignore"):
        gap = np.where((one == two) | (nan[0] & nan[1]), 0.0, np.abs(one - two))
        gap = _whole_gap(left, right) if left.dtype.kind in "iu" else np.where(np.isnan(gap), np.inf, gap)
        scale = np.where(nan[0], 0.0, np.abs(one))
        relative = np.where(gap == 0, 0.0, np.where(np.isinf(gap), np.inf, gap / scale))
        room = tolerance.atol + tolerance.rtol * scale
    steps = _steps(left, right)
    if tolerance.exact:
        beyond = np.any(_bytes(left) != _bytes(right), axis=1)
    else:
        beyond = (gap > room) | np.isinf(gap)
        if steps is not None and tolerance.ulp:
            beyond &= (steps > tolerance.ulp) | np.isinf(gap)
    places = np.flatnonzero(beyond)
    if not len(places):
        return SAME
    apart = gap[places]
    worst = int(places[int(np.argmax(apart))])
    finite = places[np.isfinite(one[places]) & np.isfinite(two[places])]
    return Distance(
        differing=len(places),
        max_abs=float(apart.max()),
        max_rel=float(relative[places].max()),
        ulp=int(steps[finite].max()) if steps is not None and len(finite) else -1,
        where=index(worst),
        first=index(int(places[0])),
        nan=int(np.count_nonzero((nan[0] | nan[1])[places])),
        zeros=int(np.count_nonzero((one[places] == 0) & (two[places] == 0))),
        left=str(left[worst]),
        right=str(right[worst]),
    )


def _whole_gap(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """|left - right| of whole numbers, made before float64 could round them."""
    high, low = np.maximum(left, right), np.minimum(left, right)
    return (high.astype(np.uint64) - low.astype(np.uint64)).astype(np.float64)


def _bytes(values: np.ndarray) -> np.ndarray:
    return values.view(np.uint8).reshape(-1, values.dtype.itemsize)


def _steps(left: np.ndarray, right: np.ndarray) -> np.ndarray | None:
    """Gaps in units of the last place, uint64; None where the dtype has none."""
    if not is_floating(left.dtype) or left.dtype.itemsize > 8:
        return None
    one, two = _ordered(left), _ordered(right)
    return np.maximum(one, two) - np.minimum(one, two)


def _ordered(values: np.ndarray) -> np.ndarray:
    """Floats as uint64 in the same order, neighbours one apart, both zeros on one number."""
    bits = 8 * values.dtype.itemsize
    words = values.view(f"uint{bits}").astype(np.uint64)
    sign = np.uint64(1 << (bits - 1))
    magnitude = words & np.uint64((1 << (bits - 1)) - 1)
    return np.where(words & sign, sign - magnitude, sign + magnitude)
