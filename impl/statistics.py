"""What quantised projections remember from step to step: how each statistic is called, and where each side keeps it.

They are no parameters: no optimizer sees them, no norm counts them, and what differentiation returns for one is its
next value, which replaces it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from impl.config import ModelConfig
from impl.names import Address, addresses
from impl.params import declare
from impl.quantization import quantised

__all__ = ["COLLECTION", "LEAVES", "OPERATION", "accumulated", "statistic_addresses"]

COLLECTION = "_overwrite_with_gradient"
"""Flax's name for variables whose gradient is their next value."""

OPERATION = "dot_general"
"""How the product inside a projection is called on every side."""

LEAVES = tuple(
    f"{tensor}_{kind}" for tensor in ("input", "kernel", "output_grad") for kind in ("amax_history", "scale")
)
"""The statistics of one product, in Flax's names: amax histories [A] and scales [1], float32."""


def statistic_addresses(config: ModelConfig, unscanned: str) -> dict[str, Address]:
    """Neutral name -> Address of every statistic, in forward order; as `impl.names.addresses`, stacked at axis 0.

    Those of ".../query/kernel" are called ".../query/dot_general/input_scale"...
    """
    kernels = addresses(config, unscanned)
    table = {}
    for row in declare(config):
        if row.kind != "kernel" or not quantised(config, row.axes):
            continue
        kernel, parent = kernels[row.name], row.name.rpartition("/")[0]
        for leaf in LEAVES:
            path = (*kernel.path[:-1], OPERATION, leaf)
            table[f"{parent}/{OPERATION}/{leaf}"] = Address(path, min(kernel.axis, 0), kernel.index)
    return table


def accumulated(total: jax.Array, found: jax.Array) -> jax.Array:
    """A statistic over microbatches so far and of one more: the larger, as of the whole batch.

    Each microbatch starts from the statistics before the step, so that all find the same scale and the same older
    history; what they differ by is their own amax, and the largest of those is the batch's. (Flax's dtype for
    statistics that several products share adds them the same way.) None is negative: 0 is where to start.
    """
    return jnp.maximum(total, found)
