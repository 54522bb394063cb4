"""What happens to logits after the head: one function, because Flax offers none and both sides need the same."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from impl.config import ModelConfig
from impl.math.head import soft_capped

__all__ = ["finish", "rounded_table"]


def finish(logits: jax.Array, config: ModelConfig) -> jax.Array:
    """Divide tied logits [B, T, V] by sqrt(E) where the configuration says so, then apply the final soft cap."""
    if config.normalize_embedding_logits:
        logits = logits / jnp.asarray(math.sqrt(config.emb_dim), logits.dtype)
    return soft_capped(logits, config.final_logits_soft_cap)


def rounded_table(table: jax.Array) -> jax.Array:
    """The embedding table [V, E] in bfloat16; its gradient is rounded with it. Source: MaxText 0.2.4's tied head."""
    return table.astype(jnp.bfloat16)
