"""Cutting a batch into microbatches for gradient accumulation."""

from __future__ import annotations

import jax

__all__ = ["strided"]


def strided(batch: jax.Array, microbatches: int) -> jax.Array:
    """[B, ...] -> [N, B/N, ...]: microbatch j holds rows j, j + N, j + 2N, ... in that order.

    Strided, not contiguous, so that a batch sharded over its rows stays evenly spread over the devices.
    Raises ValueError if B is not a multiple of `microbatches`.
    """
    rows = batch.shape[0]
    if microbatches < 1 or rows % microbatches:
        raise ValueError(f"{rows} rows cannot be cut into {microbatches} equal microbatches: choose a divisor")
    return batch.reshape(rows // microbatches, microbatches, *batch.shape[1:]).swapaxes(0, 1)
