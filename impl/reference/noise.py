"""How far apart two float32 forward passes of one model may be, by its own weights."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from impl.config import ModelConfig
from impl.reference.plain import PlainError
from impl.reference.plain.decoder import forward
from impl.training.objective import Batch

__all__ = ["room"]

ROUNDING = 2.0**-24
"""Largest relative error of one float32 rounding."""

TABLE = "token_embedder/embedding"


def room(config: ModelConfig, weights: Mapping[str, np.ndarray], batch: Batch) -> float:
    """Twice what a logit moves in float64 when every weight is off by sqrt(n) roundings, up or down at random.

    because: a float32 sum of n products is the exact sum of products that are each a little off, by about sqrt(n)
    roundings since they go up as often as down (Higham and Mary 2019, doi 10.1137/18M1226312); n is the longest sum of
    the forward pass, and there are two passes. A table that is rounded to bfloat16 stays as it is: both passes round
    the same numbers. 0 where the plain model cannot say.
    """
    longest = max(config.emb_dim, config.mlp_dim, config.num_query_heads * config.head_dim, batch.tokens.shape[1])
    size, random = math.sqrt(longest) * ROUNDING, np.random.default_rng(5)
    exact = {name: value.astype(np.float64) for name, value in weights.items()}
    moved = {
        name: value if config.round_tied_table and name == TABLE else value * _signs(random, size, value.shape)
        for name, value in exact.items()
    }
    try:
        one, two = (
            forward(config, values, batch.tokens, batch.positions, batch.segment_ids).logits
            for values in (exact, moved)
        )
    except PlainError:
        return 0.0
    return 2.0 * float(np.abs(one - two).max())


def _signs(random: np.random.Generator, size: float, shape: tuple[int, ...]) -> np.ndarray:
    return 1.0 + size * random.choice((-1.0, 1.0), shape)
