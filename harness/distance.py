"""How far apart two arrays of one shape and dtype are. NumPy only; works in blocks, so no large temporaries."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

__all__ = ["Distance", "family", "same_bits", "same_nonfinite", "spread"]

BLOCK = 1 << 20
"""Elements looked at together: a block's float64 copies stay near 8 MB each."""

UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


@dataclass(frozen=True, kw_only=True)
class Distance:
    """The spread of two arrays with n elements.

    max_abs, max_rel: largest |a-b| and |a-b|/max(|a|,|b|). ulp: largest distance in units of the last place, -1 where
    it has no meaning. worst: flat index of the largest |a-b|, or of the first element whose bits differ if no value
    does (+0.0 against -0.0); -1 if no bits differ. within: every element satisfies |a-b| <= atol + rtol*max(|a|,|b|).
    """

    max_abs: float
    max_rel: float
    ulp: int
    worst: int
    within: bool


def family(dtype: np.dtype) -> str:
    """One of "text", "bool", "int", "float", "complex": how values of `dtype` are compared.

    Knows NumPy's types and those of ml_dtypes (bfloat16, float8_*, int4...), which NumPy itself calls void.
    Raises TypeError for what cannot be compared by bits: objects, dates, records, long doubles.
    """
    if dtype.kind in "US":
        return "text"
    if dtype.kind == "b":
        return "bool"
    if dtype.itemsize <= 8 or dtype == np.complex128:
        if dtype.kind in "iu":
            return "int"
        if dtype.kind == "c":
            return "complex"
        for name, finder in (("float", ml_dtypes.finfo), ("int", ml_dtypes.iinfo)):
            try:
                finder(dtype)
            except (ValueError, TypeError):
                continue
            return name
    raise TypeError(f"values of dtype {dtype} cannot be compared: convert them to a number, bool or text dtype")


def same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    """Whether two arrays of one shape and dtype hold the same bits: -0.0 is not +0.0, a NaN equals its own bits."""
    if family(left.dtype) == "text":
        return bool(np.array_equal(left, right))
    a, b = _bits(left), _bits(right)
    return all(np.array_equal(a[i : i + BLOCK], b[i : i + BLOCK]) for i in range(0, a.size, BLOCK))


@np.errstate(all="ignore")  # ml_dtypes warns when it looks at some NaNs
def same_nonfinite(left: np.ndarray, right: np.ndarray) -> int:
    """Flat index of the first place where one side is NaN, +inf or -inf and the other is not the same; -1 if none."""
    if family(left.dtype) not in ("float", "complex"):
        return -1
    a, b = _parts(left), _parts(right)
    for start in range(0, a.size, BLOCK):
        x, y = a[start : start + BLOCK], b[start : start + BLOCK]
        odd = ~(np.isfinite(x) & np.isfinite(y))
        if not odd.any():
            continue
        where = np.flatnonzero(odd)
        p, q = x[where].astype(np.float64), y[where].astype(np.float64)
        unlike = ~((p == q) | (np.isnan(p) & np.isnan(q)))
        if unlike.any():
            return (start + int(where[np.argmax(unlike)])) // (a.size // left.size)
    return -1


@np.errstate(all="ignore")
def spread(left: np.ndarray, right: np.ndarray, rtol: float, atol: float) -> Distance:
    """Measures two arrays of one shape and dtype (not text) whose non-finite values agree; see Distance.

    Integers are subtracted as integers and cannot overflow; floats are subtracted in float64; the two parts of a
    complex number are two floats. Values that are not finite count as equal: `same_nonfinite` has looked at them.
    """
    a, b = _parts(left), _parts(right)
    kind = family(a.dtype)
    width = _ulp_width(a.dtype) if kind == "float" else 0
    max_abs, max_rel, ulp, worst, within = 0.0, 0.0, (0 if width else -1), -1, True
    for start in range(0, a.size, BLOCK):
        x, y = a[start : start + BLOCK], b[start : start + BLOCK]
        unlike = np.flatnonzero(_bits(x) != _bits(y))
        if not unlike.size:
            continue
        x, y = x[unlike], y[unlike]
        gap, size = _gap_and_size(x, y, kind)
        top = int(np.argmax(gap))
        if worst < 0 or gap[top] > max_abs:
            worst, max_abs = start + int(unlike[top]), float(gap[top])
        relative = np.divide(gap, size, out=np.zeros_like(gap), where=size > 0)
        within = within and bool(np.all(gap <= atol + rtol * size))
        max_rel = max(max_rel, float(relative.max()))
        if width:
            ulp = max(ulp, _ulps(x, y, width))
    worst = worst // (a.size // left.size) if worst >= 0 else -1
    return Distance(max_abs=max_abs, max_rel=max_rel, ulp=ulp, worst=worst, within=within)


def _parts(array: np.ndarray) -> np.ndarray:
    """The array, flat; a complex number becomes its two parts."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(flat.real.dtype) if flat.dtype.kind == "c" else flat


def _bits(array: np.ndarray) -> np.ndarray:
    """The array's bits as flat unsigned integers, two for a complex number."""
    flat = _parts(array)
    return flat.view(UNSIGNED[flat.dtype.itemsize])


def _gap_and_size(x: np.ndarray, y: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """|x-y| and max(|x|,|y|) in float64."""
    if kind in ("int", "bool"):
        if x.dtype != np.uint64:
            x, y = x.astype(np.int64), y.astype(np.int64)
        # The larger minus the smaller, wrapped into 64 unsigned bits, is exact for every pair of 64-bit integers.
        gap = np.maximum(x, y).view(np.uint64) - np.minimum(x, y).view(np.uint64)
        return gap.astype(np.float64), np.maximum(np.abs(x.astype(np.float64)), np.abs(y.astype(np.float64)))
    x, y = x.astype(np.float64), y.astype(np.float64)
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = np.where(finite, x, 0), np.where(finite, y, 0)
    return np.abs(x - y), np.maximum(np.abs(x), np.abs(y))


def _ulp_width(dtype: np.dtype) -> int:
    """Bits of a float dtype with a sign bit on top; 0 for the one that has no sign (float8_e8m0fnu)."""
    return 0 if "e8m0" in dtype.name else int(ml_dtypes.finfo(dtype).bits)


def _ulps(x: np.ndarray, y: np.ndarray, width: int) -> int:
    """Largest number of representable steps from x to y. Both zeros are one place, so they are 0 apart.

    Without the sign bit, bits are ordered as magnitudes are: equal signs subtract them, unequal ones add them.
    """
    finite = np.isfinite(x) & np.isfinite(y)
    a, b = _bits(x)[finite].astype(np.uint64), _bits(y)[finite].astype(np.uint64)
    sign = np.uint64(1 << (width - 1))
    p, q = a & (sign - np.uint64(1)), b & (sign - np.uint64(1))
    steps = np.where((a & sign) == (b & sign), np.maximum(p, q) - np.minimum(p, q), p + q)
    return int(steps.max()) if steps.size else 0
