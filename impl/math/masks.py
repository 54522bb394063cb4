"""Who may attend to whom. Masks are bool, True where the query may attend to the key.

`window` bounds how far back a query sees: itself and window - 1 positions before it. -1 (any negative number) sets no
bound. 0 therefore allows nothing, and attention is then uniform over all keys: that is what MaxText does.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["cached_mask", "training_mask", "without_padding"]


def training_mask(segment_ids: jax.Array, *, window: int = -1) -> jax.Array:
    """Causal attention inside packed segments: segment_ids int [B, T] -> bool [B, T, T].

    Causality and window count rows, not positions, since a segment lies in one piece. Padding (id 0) attends to the
    padding before it and to itself, so no row is empty while window != 0.
    """
    rows = jnp.arange(segment_ids.shape[1])
    distance = rows[:, None] - rows[None, :]
    same = segment_ids[:, :, None] == segment_ids[:, None, :]
    return same & _reaches(distance, window)


def cached_mask(
    query_positions: jax.Array, key_positions: jax.Array, key_valid: jax.Array, *, window: int = -1
) -> jax.Array:
    """Attention to a cache: query_positions int [B, T], key_positions int [B, S], key_valid bool [B, S] -> [B, T, S].

    A key counts if its slot is valid and its position is not after the query's. Slots may lie in any order.
    """
    distance = query_positions[:, :, None] - key_positions[:, None, :]
    return key_valid[:, None, :] & _reaches(distance, window)


def without_padding(mask: jax.Array, segment_ids: jax.Array) -> jax.Array:
    """A mask [B, T, S] for queries of segment_ids int [B, T] in which those of padding attend to nothing."""
    return mask & (segment_ids != 0)[:, :, None]


def _reaches(distance: jax.Array, window: int) -> jax.Array:
    """Whether a key `distance` steps back is neither ahead of the query nor out of its window."""
    return distance >= 0 if window < 0 else (distance >= 0) & (distance < window)
