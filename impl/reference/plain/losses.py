"""The loss of a batch and every term of it that a train step reports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from impl.config import ModelConfig
from impl.reference.plain.decoder import forward
from impl.reference.plain.further import further_loss
from impl.reference.plain.leaves import PlainError
from impl.training.settings import TrainSettings

__all__ = ["Losses", "objective", "summed", "token_loss"]

TINY = 1e-8
"""Added to the number of tokens before a sum is divided by it, so that a batch of padding alone has loss 0."""


@dataclass(frozen=True, kw_only=True)
class Losses:
    """xent_sum, z_sum: sums over the tokens that count, z-loss included in the first. total_weights: their number.

    loss: what is trained, the mean, or under accumulation the sum over all microbatches by at least one token, and 0
    for none; and the other losses. lm_loss: the mean; perplexity: its exponential; z_loss: the mean of the z-loss
    alone; moe_lb_loss: the load-balance loss alone, a mean over rows and layers; mtp_loss: that of predicting further.
    """

    xent_sum: float
    z_sum: float
    total_weights: float
    loss: float
    lm_loss: float
    perplexity: float
    z_loss: float
    moe_lb_loss: float
    mtp_loss: float


def objective(
    config: ModelConfig,
    settings: TrainSettings,
    weights: Mapping[str, np.ndarray],
    batch: Mapping[str, np.ndarray],
) -> Losses:
    """The losses of a batch: tokens, positions, segment_ids, targets and target_segments, ints [B, T], by name.

    Raises PlainError as `logits` does, and for targets out of range.
    """
    made = forward(config, weights, batch["tokens"], batch["positions"], batch["segment_ids"])
    targets, counted = batch["targets"], batch["target_segments"]
    found = summed(made.logits, targets, counted, settings, made.balance)
    if not config.mtp_num_layers:
        return found
    further = further_loss(config, made.further, batch["segment_ids"], targets, counted)
    return replace(found, loss=found.loss + further, mtp_loss=further)


def summed(
    scores: np.ndarray,
    targets: np.ndarray,
    target_segments: np.ndarray,
    settings: TrainSettings,
    balance: float = 0.0,
) -> Losses:
    """Losses from logits [B, T, V] and the load-balance loss: every token whose target segment is not 0 counts once."""
    if targets.min() < 0 or targets.max() >= scores.shape[-1]:
        raise PlainError(f"targets range from {targets.min()} to {targets.max()}: must lie in [0, {scores.shape[-1]})")
    xent_sum = z_sum = count = 0.0
    for place in np.ndindex(*targets.shape):
        if target_segments[place] != 0:
            xent, z = token_loss(scores[place], int(targets[place]), settings.z_loss_multiplier)
            xent_sum, z_sum, count = xent_sum + xent, z_sum + z, count + 1.0
    mean = xent_sum / (count + TINY)
    # Microbatches add up their sums, and the sum of sums is divided by all tokens together, however they are cut.
    accumulated = xent_sum / max(count, 1.0) if count else 0.0
    return Losses(
        xent_sum=xent_sum,
        z_sum=z_sum,
        total_weights=count,
        loss=(mean if settings.gradient_accumulation_steps == 1 else accumulated) + balance,
        lm_loss=mean,
        perplexity=math.exp(mean),
        z_loss=z_sum / (count + TINY),
        moe_lb_loss=balance,
        mtp_loss=0.0,
    )


def token_loss(scores: np.ndarray, target: int, multiplier: float) -> tuple[float, float]:
    """One token's loss in nats from its logits [V], and the part of it that is the z-loss.

    -log of the target's probability, plus multiplier times the square of log Z, Z being the sum of exp(scores).
    """
    highest = max(float(score) for score in scores)
    log_z = highest + math.log(sum(math.exp(float(score) - highest) for score in scores))
    z = multiplier * log_z**2
    return log_z - float(scores[target]) + z, z
