"""The two norms, of one vector at a time."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["layer_norm", "rms_norm"]


def rms_norm(x: np.ndarray, scale: np.ndarray, epsilon: float) -> np.ndarray:
    """x [N] over the root of its mean square plus epsilon, times scale [N]. Source: arXiv 1910.07467, equation 4."""
    mean_square = sum(float(entry) ** 2 for entry in x) / len(x)
    return x * scale / math.sqrt(mean_square + epsilon)


def layer_norm(x: np.ndarray, scale: np.ndarray, bias: np.ndarray, epsilon: float) -> np.ndarray:
    """x [N] less its mean, over the root of its variance plus epsilon, times 1 + scale [N], plus bias [N].

    gpt3 stores how far a scale is from 1. Source: arXiv 1607.06450, equation 4; the 1 is MaxText's.
    """
    mean = sum(float(entry) for entry in x) / len(x)
    variance = sum((float(entry) - mean) ** 2 for entry in x) / len(x)
    return (x - mean) * (1.0 + scale) / math.sqrt(variance + epsilon) + bias
