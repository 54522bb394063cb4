"""How fresh parameters are drawn by either side. jax only; the sides wrap these with their own partitioning boxes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax

from impl.config import ModelConfig

__all__ = ["embedding", "experts", "kernel", "query_kernel"]

Initializer = Callable[..., jax.Array]


def kernel() -> Initializer:
    """Normal with variance 1/fan_in, truncated at two standard deviations."""
    return jax.nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")


def experts() -> Initializer:
    """As `kernel`, for kernels of several experts [N, inputs, outputs]: each is drawn by its own fan-in."""
    return jax.nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal", batch_axis=(0,))


def query_kernel(config: ModelConfig) -> Initializer:
    """As `kernel`, times D**-0.5 where the forward pass does not scale queries: there the scale is folded in here."""
    if config.query_scale != 1.0:
        return kernel()
    plain, scale = kernel(), 1.0 / math.sqrt(config.head_dim)

    def draw(*arguments: Any, **named: Any) -> jax.Array:
        return plain(*arguments, **named) * scale

    return draw


def embedding() -> Initializer:
    """Standard normal: what MaxText draws."""
    return jax.nn.initializers.normal(1.0)
