"""What follows a normalisation: its scale. The normalisation itself is each framework's own."""

from __future__ import annotations

import jax
from jax.typing import DTypeLike

__all__ = ["apply_scale"]


def apply_scale(normalised: jax.Array, scale: jax.Array, *, offset: float, dtype: DTypeLike) -> jax.Array:
    """normalised [..., E] times (scale [E] + offset), all in `dtype`.

    Both are cast before anything is added or multiplied, so in bfloat16 the sum is rounded too. offset is 1 where a
    checkpoint stores scale - 1, otherwise 0.
    """
    return normalised.astype(dtype) * (scale.astype(dtype) + offset)
