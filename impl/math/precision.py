"""The dtype of what must not be computed in less: sums, softmax, angles, losses."""

from __future__ import annotations

import jax.numpy as jnp

__all__ = ["full"]


def full() -> jnp.dtype:
    """float32, the widest float of a process as it is; float64 under `jax.enable_x64`, for runs of an oracle."""
    return jnp.result_type(float)
