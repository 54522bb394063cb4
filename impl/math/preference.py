"""Direct preference optimisation (arXiv 2305.18290): which tokens count, their log-probabilities, losses of pairs.

A pair is two rows that begin alike (the prompt) and part: the chosen one and the rejected one. Each token is predicted
by the position before it, so everything here is about the tokens from a row's second one on.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from impl.math.precision import full

__all__ = ["Pairs", "completion_logps", "completion_masks", "preference_losses", "rewards", "shared_masks"]


class Pairs(NamedTuple):
    """What belongs to the chosen rows, and the same of the rejected ones."""

    chosen: jax.Array
    rejected: jax.Array


def completion_masks(tokens: Pairs, segment_ids: Pairs) -> Pairs:
    """Tokens that count: two int [B, T] and their segment ids -> two bool [B, T - 1], each for its own row's tokens.

    What the two rows have in common from their start does not count, nor does padding. A token that both rows have
    again after they parted counts in both.
    """
    real = Pairs(*[ids != 0 for ids in segment_ids])
    apart = (tokens.chosen != tokens.rejected) | (real.chosen != real.rejected)
    parted = jnp.cumsum(apart, axis=1) > 0
    return Pairs(*[(parted & row)[:, 1:] for row in real])


def shared_masks(masks: Pairs) -> Pairs:
    """Each row's mask cut to where the other row counts too, as MaxText does: what is longer is cut to the shorter."""
    both = masks.chosen & masks.rejected
    return Pairs(both, both)


def completion_logps(logits: jax.Array, tokens: jax.Array, mask: jax.Array) -> jax.Array:
    """Log-probability of each row's tokens under `mask`: [B, T, V], int [B, T], bool [B, T - 1] -> float32 [B].

    The sum over tokens, not their mean: the probability of a completion is the product of its tokens'.
    """
    logits = logits[:, :-1].astype(full())
    taken = jnp.take_along_axis(logits, tokens[:, 1:, None], axis=-1)[..., 0]
    # Multiplied, not selected: a NaN in padding would poison the gradient either way, so the loss should show it.
    return jnp.sum((taken - jax.nn.logsumexp(logits, axis=-1)) * mask.astype(full()), axis=1)


def rewards(policy: jax.Array, reference: jax.Array, beta: float) -> jax.Array:
    """beta * (log policy - log reference), [B] each: the reward that the policy would be optimal for."""
    return beta * (policy - reference)


def preference_losses(margins: jax.Array, label_smoothing: float) -> jax.Array:
    """Losses of pairs from the margins [B], chosen reward minus rejected reward, in nats.

    -(1 - s) log sigmoid(m) - s log sigmoid(-m), where s is the share of labels taken to be swapped. It is written
    softplus(-m) + s m, which is the same because softplus(m) = softplus(-m) + m: a margin of 0 then costs what
    float32 holds for ln 2 (0x3f317218), whatever s is, and no rounding of 1 - s comes in.
    """
    return jax.nn.softplus(-margins) + label_smoothing * margins
