"""8-bit products in Linen: Flax's own operations, which keep their statistics in "_overwrite_with_gradient"."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from flax import linen as nn

from impl.config import ModelConfig
from impl.quantization import quantised
from impl.statistics import OPERATION

__all__ = ["OPERATIONS", "Fp8RoundedDot", "dot"]


class Fp8RoundedDot(nn.Fp8DotGeneralOp):
    """Flax's operation that rounds to 8 bits and back. By its own name it would warn that GPUs have a newer one."""


OPERATIONS: dict[str, Callable[..., nn.Module]] = {
    "fp8": Fp8RoundedDot,
    "fp8_gpu": nn.Fp8DirectDotGeneralOp,
    "fp8_nanoo": nn.NANOOFp8DotGeneralOp,
}
"""Flavour -> Flax's operation."""


def dot(config: ModelConfig, axes: tuple[str | None, ...]) -> Callable[[], nn.Module] | None:
    """What makes the product of the projection whose kernel has these logical axes; None leaves it as it is."""
    if not quantised(config, axes):
        return None
    return partial(OPERATIONS[config.quantization], config.amax_history_length, name=OPERATION)
