"""Predicting further, over one row: what lies k places on in its segment, the layers that join it, and their loss.

Layer k has the stream of the layer before, or of the decoder, and the token k places on; what it makes of both guesses
the token after that one, with the decoder's own norm and head. Source: arXiv 2412.19437, equations 21 to 25; their
mean over layers is here one over all places together.
"""

from __future__ import annotations

import math

import numpy as np

from impl.config import ModelConfig
from impl.reference.plain.blocks import Passed, Row, block, normed
from impl.reference.plain.leaves import Weights, below
from impl.reference.plain.stacks import layers

__all__ = ["ahead", "further_loss", "joined"]

TINY = 1e-8
"""Added to the number of places before a sum is divided by it."""


def ahead(values: np.ndarray, segments: np.ndarray, steps: int) -> np.ndarray:
    """What stands `steps` places on, ints [T] -> [T]; 0 where the segment, an int [T], has ended by then."""
    return np.array([0 if (place := _walked(segments, at, steps)) < 0 else values[place] for at in range(len(values))])


def _walked(segments: np.ndarray, at: int, steps: int) -> int:
    for _ in range(steps):
        if at + 1 == len(segments) or segments[at + 1] != segments[at]:
            return -1
        at += 1
    return at if segments[at] else -1


def joined(config: ModelConfig, weights: Weights, k: int, x: np.ndarray, entered: np.ndarray, row: Row) -> Passed:
    """Layer k: the stream x [T, E] and the embedded tokens k places on, each normed, projected together, one block."""
    held, epsilon = below(weights, f"mtp_block/mtp_layer_{k}"), config.normalization_layer_epsilon
    token = normed(below(held, f"mtp_{k}_embedding_norm"), entered, epsilon)
    stream = normed(below(held, f"mtp_{k}_hidden_state_norm"), x, epsilon)
    both = [np.concatenate(pair) @ held[f"mtp_{k}_projection/kernel"] for pair in zip(token, stream, strict=True)]
    return block(config, below(held, f"mtp_{k}_transformer_layer"), np.stack(both), row, layers(config)[-1])


def further_loss(
    config: ModelConfig,
    guesses: np.ndarray,
    segments: np.ndarray,
    targets: np.ndarray,
    target_segments: np.ndarray,
) -> float:
    """Logits [B, n, T, V] of the layers -> their scaled loss, a mean over all places whose target counts."""
    total = count = 0.0
    for row, layer, at in np.ndindex(*guesses.shape[:3]):
        place = _walked(segments[row], at, layer + 1)
        if place >= 0 and target_segments[row, place] != 0:
            scores = guesses[row, layer, at]
            highest = float(scores.max())
            log_z = highest + math.log(sum(math.exp(float(score) - highest) for score in scores))
            total, count = total + log_z - float(scores[targets[row, place]]), count + 1.0
    return config.mtp_loss_scaling_factor * total / (count + TINY)
