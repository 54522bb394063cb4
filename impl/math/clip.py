"""QK-Clip: the kernels of heads whose logits grew beyond a threshold, made smaller until the largest one reaches it.

Source: arXiv 2507.20534, section 2.1. In latent attention the heads share the part of a key that turns, which cannot
shrink for one of them: the query's takes the whole factor. Of the parts that do not turn, query's and key's take its
square root each. Letters as in `impl.math.mla`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from impl.math.attention import MASKED, dot_products
from impl.math.precision import full

__all__ = ["clipped_query", "clipped_up", "head_scales", "largest_logits"]


def largest_logits(query: jax.Array, key: jax.Array, mask: jax.Array) -> jax.Array:
    """Largest dot product of each row and head: query [B, T, H, D], key [B, S, K, D], mask bool [B, T, S] -> [B, H].

    float32, of what the mask lets through; MASKED where that is nothing. No gradient goes through it. These are the
    products that `impl.math.attention.attend` takes: compiled together, they are taken once.
    """
    logits = jnp.where(mask[:, None, None], dot_products(query, key), MASKED)
    return jax.lax.stop_gradient(jnp.max(logits, axis=(-2, -1)).reshape(query.shape[0], query.shape[2]))


def head_scales(largest: jax.Array, threshold: float) -> jax.Array:
    """What each head's logits are to be multiplied by: min(1, threshold / largest), of any shape.

    Exactly 1 up to the threshold, for negative logits too, for which the quotient itself would be negative.
    """
    return threshold / jnp.maximum(largest, threshold)


def clipped_query(kernel: jax.Array, scales: jax.Array, still: int) -> jax.Array:
    """A kernel [..., H, Dn+Dr] that makes queries, clipped by scales that fit [..., H]; shape and dtype stay.

    still: Dn, whose coordinates are multiplied by the root of the scale, the others by the scale.
    """
    own, turning = jnp.split(kernel, [still], axis=-1)
    return jnp.concatenate([_times(own, jnp.sqrt(scales)), _times(turning, scales)], axis=-1)


def clipped_up(kernel: jax.Array, scales: jax.Array, still: int) -> jax.Array:
    """A kernel [..., H, Dn+Dv] that makes heads' own part of keys and values, clipped; shape and dtype stay.

    still: Dn, whose coordinates are multiplied by the root of the scale. Values stay as they are.
    """
    own, value = jnp.split(kernel, [still], axis=-1)
    return jnp.concatenate([_times(own, jnp.sqrt(scales)), value], axis=-1)


def _times(kernel: jax.Array, factors: jax.Array) -> jax.Array:
    """[..., H, D] times [..., H], rounded once."""
    return (kernel.astype(full()) * factors[..., None]).astype(kernel.dtype)
