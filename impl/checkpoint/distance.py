"""How far apart two arrays of one shape and dtype are."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

__all__ = ["Distance", "distance"]


@dataclass(frozen=True, kw_only=True)
class Distance:
    """differing: elements beyond the tolerance. max_abs, max_rel: over those. ulp: largest gap in units of the last
    place of the dtype, -1 where that has no meaning. where: index of the worst element."""

    differing: int
    max_abs: float
    max_rel: float
    ulp: int
    where: tuple[int, ...]


def distance(left: np.ndarray, right: np.ndarray, rtol: float, atol: float) -> Distance:
    """Distance of `right` from `left`, an element differing when |left - right| > atol + rtol * |left|.

    With both tolerances 0, elements differ when their bytes do, so -0.0 is not 0.0. NaN matches NaN only.
    """
    if left.tobytes() == right.tobytes():
        return Distance(differing=0, max_abs=0.0, max_rel=0.0, ulp=0, where=())
    floating = _is_float(left.dtype)
    # float64 holds every value of the smaller dtypes exactly; complex numbers keep their own arithmetic.
    wide = np.complex128 if left.dtype.kind == "c" else np.float64
    one, two = left.astype(wide), right.astype(wide)
    with np.errstate(all="ignore"):
        gap = np.where((one == two) | (np.isnan(one) & np.isnan(two)), 0.0, np.abs(one - two))
        gap = np.where(np.isnan(gap), np.inf, gap)
        scale = np.where(np.isnan(one), 0.0, np.abs(one))
        beyond = _bytes_differ(left, right) if rtol == atol == 0 else (gap > atol + rtol * scale) | np.isinf(gap)
        relative = np.where(gap == 0, 0.0, gap / scale)
    if not beyond.any():
        return Distance(differing=0, max_abs=0.0, max_rel=0.0, ulp=0, where=())
    worst = np.unravel_index(int(np.argmax(np.where(beyond, gap, -1.0))), beyond.shape)
    return Distance(
        differing=int(np.count_nonzero(beyond)),
        max_abs=float(gap[beyond].max()),
        max_rel=float(np.nanmax(relative[beyond])),
        ulp=_ulp(left[beyond], right[beyond]) if floating else -1,
        where=tuple(int(index) for index in worst),
    )


def _is_float(dtype: np.dtype) -> bool:
    if dtype.kind == "f":
        return True
    try:
        ml_dtypes.finfo(dtype)
    except (TypeError, ValueError, KeyError):
        return False
    return dtype.kind != "c"


def _bytes_differ(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    size = left.dtype.itemsize
    words = [np.ascontiguousarray(side).reshape(-1).view(np.uint8).reshape(-1, size) for side in (left, right)]
    return np.any(words[0] != words[1], axis=1).reshape(left.shape)


def _ulp(left: np.ndarray, right: np.ndarray) -> int:
    finite = np.isfinite(left.astype(np.float64)) & np.isfinite(right.astype(np.float64))
    if not finite.any():
        return -1
    one, two = _ordered(left[finite]), _ordered(right[finite])
    return int((np.maximum(one, two) - np.minimum(one, two)).max())


def _ordered(values: np.ndarray) -> np.ndarray:
    """Floats as uint64 in the same order, neighbours one apart, both zeros on one number."""
    bits = 8 * values.dtype.itemsize
    words = np.ascontiguousarray(values).view(f"uint{bits}").astype(np.uint64)
    sign = np.uint64(1 << (bits - 1))
    magnitude = words & np.uint64((1 << (bits - 1)) - 1)
    return np.where(words & sign, sign - magnitude, sign + magnitude)
