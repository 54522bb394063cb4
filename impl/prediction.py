"""The fields of a model that predicts more than the next token, under MaxText's names; what is refused of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from impl.later import later

if TYPE_CHECKING:
    from impl.config import ModelConfig

__all__ = ["BLOCK", "Prediction", "layer_name", "part_name", "prediction_problems"]

BLOCK = "mtp_block"
"""What the layers that predict further are called together, beside the decoder."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What `impl.config.ModelConfig` has for multi-token prediction (arXiv 2412.19437, 2.2).

    mtp_num_layers: how many tokens after the next one are predicted, each by a layer of its own, in training alone.
    mtp_loss_scaling_factor: what their mean loss counts. mtp_eval_target_module: the layer whose guesses are compared
        with the model's own, from 1; 0 compares none.
    """

    mtp_num_layers: int = later(0)
    mtp_loss_scaling_factor: float = later(0.1)
    mtp_eval_target_module: int = later(0)


def layer_name(k: int) -> str:
    """What the layer is called that looks k tokens further, counted from 1."""
    return f"mtp_layer_{k}"


def part_name(k: int, part: str) -> str:
    """What a part of that layer is called: "projection", "transformer_layer" or a norm."""
    return f"mtp_{k}_{part}"


def prediction_problems(config: ModelConfig) -> list[str]:
    """Why such a model cannot be built."""
    count, target, factor = config.mtp_num_layers, config.mtp_eval_target_module, config.mtp_loss_scaling_factor
    found = []
    if count < 0:
        found.append(f"mtp_num_layers={count} must not be negative: 0 predicts the next token alone")
    if not 0 <= target <= max(count, 0):
        found.append(
            f"mtp_eval_target_module={target} must lie between 0, which compares nothing, and mtp_num_layers={count}"
        )
    if count < 1:
        return found
    if factor <= 0:
        found.append(f"mtp_loss_scaling_factor={factor} teaches mtp_num_layers={count} nothing: make it positive")
    if count >= config.max_target_length:
        found.append(
            f"mtp_num_layers={count} looks beyond rows of max_target_length={config.max_target_length}: use fewer"
        )
    if config.decoder_block == "gpt3":
        found.append("mtp_num_layers with decoder_block='gpt3': these layers norm by the root mean square; use 0")
    return found
