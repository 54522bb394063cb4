"""8-bit products in NNX: statistics in Variables of a type of their own, arithmetic in `impl.math.fp8`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from impl.config import ModelConfig
from impl.math.fp8 import FORMATS, Meta, product
from impl.quantization import quantised
from impl.statistics import COLLECTION

__all__ = ["DIFFERENTIATED", "Fp8Dot", "Overwritten", "dot"]

TENSORS = ("input", "kernel", "output_grad")


class Overwritten(nnx.Variable):
    """A statistic whose "gradient" is its next value: to be replaced, never descended, clipped or given to a norm."""


DIFFERENTIATED = nnx.Any(nnx.Param, Overwritten)
"""What the loss is differentiated by. A forward pass reads these and never writes them."""

# What crosses a bridge is of this type in NNX and in this collection in Linen.
nnx.register_variable_name(COLLECTION, Overwritten)


class Fp8Dot(nnx.Module):
    """A product that takes the place of lax.dot_general inside one nnx.LinearGeneral, with that one's statistics."""

    def __init__(self, flavour: str, history: int):
        self.formats = FORMATS[flavour]
        for tensor in TENSORS:
            setattr(self, f"{tensor}_amax_history", Overwritten(jnp.zeros((history,), jnp.float32)))
            setattr(self, f"{tensor}_scale", Overwritten(jnp.ones((1,), jnp.float32)))

    def __call__(self, x: jax.Array, kernel: jax.Array, dimension_numbers: Any, **options: Any) -> jax.Array:
        """x [..., C...] times kernel [C..., O...] -> [..., O...]. Precision is the recipe's, whatever is asked for."""
        contracted = len(dimension_numbers[0][0])
        return product(contracted, self.formats, x, kernel, tuple(self._meta(tensor) for tensor in TENSORS))

    def _meta(self, tensor: str) -> Meta:
        return Meta(getattr(self, f"{tensor}_amax_history")[...], getattr(self, f"{tensor}_scale")[...])


def dot(config: ModelConfig, axes: tuple[str | None, ...]) -> Fp8Dot | None:
    """The product of the projection whose kernel has these logical axes; None leaves it as it is."""
    return Fp8Dot(config.quantization, config.amax_history_length) if quantised(config, axes) else None
