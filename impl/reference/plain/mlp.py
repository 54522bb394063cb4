"""The MLP of one position: projections, activations, their product, and the way back."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from impl.config import ModelConfig
from impl.reference.plain.leaves import Weights

__all__ = ["ACTIVATIONS", "feed_forward"]


def _sigmoid(value: float) -> float:
    # 1 / (1 + exp(-value)) without its overflow.
    return 0.5 * (1.0 + math.tanh(value / 2.0))


def _gelu(value: float) -> float:
    return 0.5 * value * (1.0 + math.tanh(math.sqrt(2.0 / math.pi) * (value + 0.044715 * value**3)))


ACTIVATIONS: dict[str, Callable[[float], float]] = {
    "gelu": _gelu,
    "linear": float,
    "relu": lambda value: max(value, 0.0),
    "sigmoid": _sigmoid,
    "silu": lambda value: value * _sigmoid(value),
}
"""Every activation by name, of one number. "gelu" is the approximation by tanh."""


def feed_forward(config: ModelConfig, weights: Weights, x: np.ndarray) -> np.ndarray:
    """x [E] -> [E]: the product of the activated projections [F], projected back. `weights` relative to the MLP."""
    count = len(config.mlp_activations)
    product = np.ones(1)
    for index, name in enumerate(config.mlp_activations):
        projected = _affine(weights, "wi" if count == 1 else f"wi_{index}", x)
        product = product * [ACTIVATIONS[name](float(entry)) for entry in projected]
    return _affine(weights, "wo", product)


def _affine(weights: Weights, name: str, x: np.ndarray) -> np.ndarray:
    return x @ weights[f"{name}/kernel"] + weights.get(f"{name}/bias", 0.0)
