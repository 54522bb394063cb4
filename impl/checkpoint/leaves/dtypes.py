"""NumPy's dtypes with those of ml_dtypes among them: by name, by kind, and rounded to. Nothing else here knows both."""

from __future__ import annotations

import functools

import ml_dtypes
import numpy as np

__all__ = ["dtype_name", "dtype_named", "is_floating", "to_bfloat16"]


def dtype_named(name: str) -> np.dtype:
    """The dtype called `name`: NumPy's own, bfloat16, float8_e4m3fn, int4... Raises TypeError for one there is not."""
    return np.dtype(name)


@functools.lru_cache(maxsize=256)
def dtype_name(dtype: np.dtype) -> str:
    """Name of a dtype; NumPy makes it anew each time."""
    return str(dtype)


@functools.lru_cache(maxsize=256)
def is_floating(dtype: np.dtype) -> bool:
    """Whether numbers of this dtype have a fraction: float32, bfloat16, float8_e4m3fn... and not int4."""
    if dtype.kind == "f":
        return True
    try:
        ml_dtypes.finfo(dtype)
    except (TypeError, ValueError, KeyError):
        return False
    return dtype.kind != "c"


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """`values` as bfloat16, rounded once and to the nearest, ties to even.

    float64 takes its last bits along: two roundings on the way could err by one.
    """
    if values.dtype == np.float64:
        values = _odd(values)
    return np.asarray(values.astype(ml_dtypes.bfloat16), order="C")


def _odd(values: np.ndarray) -> np.ndarray:
    """float64 to float32, cut off, with the last bit set where anything was: what rounds it again sees no false tie."""
    with np.errstate(over="ignore"):
        near = values.astype(np.float32)
    cut = np.where(np.abs(near) > np.abs(values), np.nextafter(near, np.float32(0)), near)
    bits = cut.astype(np.float32).view(np.uint32) | (cut != values).astype(np.uint32)
    return bits.view(np.float32)
