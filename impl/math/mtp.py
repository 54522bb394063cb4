"""Multi-token prediction: what lies k tokens ahead in packed rows, the loss of guessing it, and how guesses agree.

Place t of a row predicts token t + 1; layer k of those that predict further predicts token t + 1 + k at place t. All of
it happens inside one segment: places whose segment ends too early weigh nothing.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from impl.math.loss import token_losses
from impl.math.precision import full

__all__ = ["agreeing", "ahead", "further_loss", "places_with_target", "total_places"]


def ahead(values: jax.Array, segment_ids: jax.Array, steps: int) -> jax.Array:
    """What stands `steps` tokens further in the same segment: values int [B, T], segment_ids int [B, T] -> [B, T].

    0 where the segment ends before that, and in padding. Each step moves by one, so that no step enters a segment.
    """
    following = jnp.roll(segment_ids, -1, axis=1).at[:, -1].set(0)
    stays = (segment_ids == following) & (segment_ids != 0)
    for _ in range(steps):
        values = jnp.where(stays, jnp.roll(values, -1, axis=1), 0)
    return values


def places_with_target(target_segments: jax.Array, segment_ids: jax.Array, steps: int) -> jax.Array:
    """Where a token that counts stands `steps` tokens after the next one: float32 [B, T] of 0 and 1.

    Segment ids are numbers and no weights: every one but 0 weighs 1.
    """
    return ahead((target_segments != 0).astype(jnp.int32), segment_ids, steps).astype(full())


def total_places(target_segments: jax.Array, segment_ids: jax.Array, layers: int) -> jax.Array:
    """How many places all layers together have a target at, float32 ()."""
    counts = [jnp.sum(places_with_target(target_segments, segment_ids, k)) for k in range(1, layers + 1)]
    return sum(counts[1:], counts[0])


def further_loss(logits: jax.Array, targets: jax.Array, places: jax.Array) -> jax.Array:
    """Cross entropy summed over places, float32 (): logits [B, T, V], targets int [B, T], places float32 [B, T]."""
    return jnp.sum(token_losses(logits, targets, 0.0)[0] * places)


def agreeing(guesses: jax.Array, own: jax.Array, places: jax.Array) -> jax.Array:
    """At how many places two guesses int [B, T] of one token are the same, float32 ()."""
    return jnp.sum((guesses == own).astype(full()) * places)
