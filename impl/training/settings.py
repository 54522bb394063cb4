"""How a model is trained: frozen, validated once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from impl.config import ConfigError
from impl.later import later
from impl.math.tiling import Gradients

__all__ = ["PreferenceSettings", "TrainSettings"]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """schedule "scalar" hands the optimizer a number, "constant" a function that returns it, "cosine" warms up linearly
    over warmup_steps, then falls along a cosine to final_fraction of learning_rate at schedule_steps and is 0 after.

    gradient_clipping_threshold 0 clips nothing. gradient_accumulation_steps is the number of microbatches.
    num_vocab_tiling is the number of tiles of positions for which logits are made at a time (`impl.math.tiling`); 1
    makes all at once. vocab_tiling_gradients "maxtext-0.2.4" leaves out a factor, as that release does.
    """

    opt_type: str = "adamw"
    learning_rate: float = 3e-3
    schedule: str = "cosine"
    warmup_steps: int = 2
    schedule_steps: int = 40
    final_fraction: float = 0.1
    adam_b1: float = 0.9
    adam_b2: float = 0.95
    adam_eps: float = 1e-8
    adam_eps_root: float = 0.0
    adam_weight_decay: float = 0.1
    gradient_clipping_threshold: float = 1.0
    gradient_accumulation_steps: int = 1
    z_loss_multiplier: float = 1e-3
    num_vocab_tiling: int = later(1)
    vocab_tiling_gradients: Gradients = later("exact")

    def __post_init__(self) -> None:
        if self.opt_type not in ("adamw", "adam_pax", "sgd"):
            raise ConfigError(f"opt_type={self.opt_type!r} is not one of adamw, adam_pax, sgd")
        if self.schedule not in ("scalar", "constant", "cosine"):
            raise ConfigError(f"schedule={self.schedule!r} is not one of scalar, constant, cosine")
        if self.vocab_tiling_gradients not in get_args(Gradients):
            known = ", ".join(get_args(Gradients))
            raise ConfigError(f"vocab_tiling_gradients={self.vocab_tiling_gradients!r} is not one of {known}")
        for name in ("gradient_accumulation_steps", "num_vocab_tiling"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("warmup_steps", "adam_eps", "adam_eps_root", "gradient_clipping_threshold"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}={getattr(self, name)} must not be negative")
        if self.schedule == "cosine" and self.warmup_steps >= self.schedule_steps:
            raise ConfigError(
                f"warmup_steps={self.warmup_steps} leaves nothing of schedule_steps={self.schedule_steps}: lower it"
            )


@dataclass(frozen=True, kw_only=True)
class PreferenceSettings:
    """Direct preference optimisation. enable trains on pairs instead of text.

    beta scales rewards against the reference. label_smoothing is the share of pairs whose labels are taken to be
    swapped. formula "paper" is arXiv 2305.18290; "maxtext" multiplies by beta twice and cuts the longer completion to
    the shorter one, as MaxText did: only to reproduce its numbers.
    """

    enable: bool = False
    beta: float = 0.1
    label_smoothing: float = 0.0
    formula: str = "paper"

    def __post_init__(self) -> None:
        if self.formula not in ("paper", "maxtext"):
            raise ConfigError(f"formula={self.formula!r} is not one of paper, maxtext")
        if self.beta <= 0:
            raise ConfigError(f"beta={self.beta} must be positive: at 0 no pair would teach anything")
        if not 0.0 <= self.label_smoothing < 0.5:
            raise ConfigError(
                f"label_smoothing={self.label_smoothing} must lie in [0, 0.5): from 0.5 on labels mislead"
            )
