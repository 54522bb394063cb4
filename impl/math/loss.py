"""Cross entropy with a z-loss, per token and summed over a batch. Float32 throughout, plain automatic derivatives."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from impl.math.precision import full

__all__ = ["EPSILON", "LossTerms", "loss_terms", "token_losses"]

EPSILON = 1e-8
"""What is added to the summed weights before a sum is divided by them, so that a batch of padding has loss 0."""


class LossTerms(NamedTuple):
    """Sums over the tokens that count, float32 (): cross entropy (z-loss included), z-loss alone, number of tokens."""

    xent_sum: jax.Array
    z_sum: jax.Array
    weights: jax.Array


def token_losses(logits: jax.Array, targets: jax.Array, z_loss: float) -> tuple[jax.Array, jax.Array]:
    """Losses of single tokens, in nats: logits [B, T, V], targets int [B, T] in [0, V) -> two float32 [B, T].

    The second is the z-loss, z_loss times the square of log Z, Z being the sum of exp(logits) (arXiv 2204.02311). The
    first is log Z - logits[target] plus the second. Logits are cast to float32 first; log Z subtracts their maximum.
    """
    logits = logits.astype(full())
    log_z = jax.nn.logsumexp(logits, axis=-1)
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    z = z_loss * jnp.square(log_z)
    return log_z - chosen + z, z


def loss_terms(logits: jax.Array, targets: jax.Array, target_segments: jax.Array, z_loss: float) -> LossTerms:
    """Losses [B, T] summed over the tokens whose target_segments int [B, T] is not 0. `token_losses` has the rest.

    Every segment id but 0 weighs 1. Nothing is divided: sums of microbatches can be added.
    """
    xent, z = token_losses(logits, targets, z_loss)
    # Multiplied, not selected: a NaN in padding would poison the gradient either way, so the loss should show it.
    weights = (target_segments != 0).astype(full())
    return LossTerms(jnp.sum(xent * weights), jnp.sum(z * weights), jnp.sum(weights))
