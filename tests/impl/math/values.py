"""Generic inputs, and the one comparison: within a bound that each test derives and states."""

from __future__ import annotations

import numpy as np

EPS = 2.0**-23
"""Spacing of float32 at 1; one rounding errs by at most half of it, relatively."""

BF16_ROUNDING = 2.0**-8
"""Largest relative error of one rounding to bfloat16."""


def draw(seed, *shape, spread=1.0):
    """Normal float32 values: no zeros, no ones, no two alike."""
    return (np.random.default_rng(seed).standard_normal(shape) * spread + 0.1).astype(np.float32)


def wide(array):
    """Any array as float64, exactly."""
    return np.asarray(array).astype(np.float64)


def assert_within(actual, expected, bound):
    """Every entry of `actual` is finite and no further from `expected` than `bound`."""
    error = np.abs(wide(actual) - expected)
    assert error.shape == np.shape(expected)
    assert error.size > 0
    assert np.all(np.isfinite(error))
    worst = np.max(error / np.broadcast_to(bound, error.shape))
    assert worst <= 1.0, f"largest error is {worst:.3g} times its bound"
