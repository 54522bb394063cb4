"""Numbers in fewer bits: bfloat16, rounded once and to the nearest, ties to even."""

from __future__ import annotations

import ml_dtypes
import numpy as np

__all__ = ["is_floating", "to_bfloat16"]


def is_floating(dtype: np.dtype) -> bool:
    """Whether numbers of this dtype have a fraction: float32, bfloat16, float8_e4m3fn... and not int4."""
    return dtype.name.startswith(("float", "bfloat"))


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """`values` as bfloat16. float64 takes its last bits along: two roundings on the way could err by one."""
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
