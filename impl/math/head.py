"""From hidden states to logits over the vocabulary."""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["soft_capped", "tied_logits"]


def tied_logits(hidden: jax.Array, table: jax.Array) -> jax.Array:
    """Dot products with every row of the embedding table: hidden [B, T, E], table [V, E] -> [B, T, V].

    The table is cast to hidden's dtype, the product is taken and returned in it.
    """
    return jnp.einsum("bte,ve->btv", hidden, table.astype(hidden.dtype))


def soft_capped(logits: jax.Array, cap: float) -> jax.Array:
    """cap * tanh(logits / cap): smoothly inside (-cap, cap), shape and dtype kept. A cap of 0 is none.

    Raises ValueError if cap is negative.
    """
    if cap < 0:
        raise ValueError(f"soft cap {cap} is negative: use a positive bound, or 0 for none")
    if cap == 0:
        return logits
    return cap * jnp.tanh(logits / cap)
