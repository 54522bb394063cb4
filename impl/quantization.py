"""Training in 8-bit floats: which flavours there are, which projections they change, and what those remember.

Every projection inside a decoder block is quantised; embedding and head are not, as in MaxText.

    fp8        both operands are rounded to 8 bits and back, and multiplied in the dtype of computation (e4m3fn; e5m2)
    fp8_gpu    the 8-bit operands themselves are multiplied, and scaled back after (the same formats)
    fp8_nanoo  as fp8, in the formats of AMD's MI300 (e4m3fnuz; e5m2fnuz)

A CPU has no 8-bit arithmetic: XLA widens the operands of fp8_gpu's products there, so that their values are those of
exact 8-bit operands, but what a GPU fuses, and how its matrix units add up, is not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from impl.config import ModelConfig

__all__ = ["FLAVOURS", "problems", "quantised"]

FLAVOURS = ("fp8", "fp8_gpu", "fp8_nanoo")
"""Values of `quantization` beside "", which quantises nothing."""


def quantised(config: ModelConfig, axes: Sequence[str | None]) -> bool:
    """Whether `config` quantises the projection whose kernel has these logical axes."""
    return bool(config.quantization) and "vocab" not in axes


def problems(config: ModelConfig) -> list[str]:
    """Why the quantisation that `config` asks for makes no sense, each a sentence with the value and the cure."""
    found = []
    if config.quantization not in ("", *FLAVOURS):
        found.append(f"quantization={config.quantization!r} is not one of '' (none), {', '.join(FLAVOURS)}")
    if config.amax_history_length < 1:
        found.append(f"amax_history_length={config.amax_history_length} must be at least 1")
    return found
