"""Choosing the next token from logits [B, V]."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from impl.math.precision import full

__all__ = ["greedy", "sample", "token_log_probs"]


def greedy(logits: jax.Array) -> jax.Array:
    """The likeliest token of each row, the first among equals: [B, V] -> int32 [B]."""
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def sample(key: jax.Array, logits: jax.Array, *, temperature: float, top_k: int) -> jax.Array:
    """A token of each row drawn from softmax(logits / temperature): [B, V] -> int32 [B].

    Only the top_k largest logits take part, the first among equals; 0 admits all. The same key draws the same noise
    for a token whatever top_k is, so top_k=0 and top_k=V agree. Float32 inside.

    Raises ValueError unless temperature is positive and 0 <= top_k <= V.
    """
    if temperature <= 0:
        raise ValueError(f"temperature={temperature} must be positive: for the likeliest token use greedy")
    rows, vocabulary = logits.shape
    if not 0 <= top_k <= vocabulary:
        raise ValueError(f"top_k={top_k} must lie between 0 (all) and the vocabulary size {vocabulary}")
    logits = logits.astype(full())
    if top_k:
        _, best = jax.lax.top_k(logits, top_k)
        kept = jnp.zeros(logits.shape, bool).at[jnp.arange(rows)[:, None], best].set(True)
        logits = jnp.where(kept, logits, -jnp.inf)
    return jax.random.categorical(key, logits / temperature, axis=-1).astype(jnp.int32)


def token_log_probs(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    """The natural log of each token's probability: logits [B, V], tokens int [B] in [0, V) -> float32 [B]."""
    log_probs = jax.nn.log_softmax(logits.astype(full()), axis=-1)
    return jnp.take_along_axis(log_probs, tokens[:, None], axis=-1)[:, 0]
