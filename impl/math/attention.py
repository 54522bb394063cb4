"""Grouped-query softmax attention."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from impl.math.head import soft_capped
from impl.math.precision import full

__all__ = ["MASKED", "attend", "dot_products"]

MASKED = -0.7 * float(jnp.finfo(jnp.float32).max)
"""The logit of a masked key: finite, so that a row in which all is masked becomes uniform instead of NaN."""


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array,
    *,
    soft_cap: float = 0.0,
    sinks: tuple[jax.Array, ...] = (),
) -> jax.Array:
    """Each query's mean of the values, weighted by the softmax of its dot products with the keys.

    query [B, T, H, D], key and value [B, S, K, D], mask bool [B, T, S] -> [B, T, H, D] in query's dtype. Query head h
    reads key head h // G; the result is as wide as the values. Nothing is scaled by sqrt(D): the caller scales it.

    Dot products are taken in the inputs' dtype, then cast to float32; soft cap, mask and softmax are float32; the
    weights are cast to value's dtype before they multiply. A query that may attend to nothing gets the plain mean of
    all S values. `soft_cap` as in `impl.math.head.soft_capped`, applied before the mask.

    sinks: one array [H], or none: each head's logit for attending to nothing, which is not capped and has no value, so
    that weights add up to less than 1; a query that may attend to nothing else then gets 0. Source: arXiv 2508.10925.

    Raises ValueError if H is not a multiple of K, or if soft_cap is negative.
    """
    logits = jnp.where(mask[:, None, None], soft_capped(dot_products(query, key), soft_cap), MASKED)
    for sink in sinks:
        column = sink.astype(full()).reshape(*logits.shape[1:3], 1, 1)
        logits = jnp.concatenate([logits, jnp.broadcast_to(column, (*logits.shape[:-1], 1))], axis=-1)
    weights = jax.nn.softmax(logits, axis=-1).astype(value.dtype)
    if sinks:
        weights = weights[..., : key.shape[1]]
    mixed = jnp.einsum("bkgts,bskd->btkgd", weights, value)
    return mixed.reshape(*query.shape[:3], value.shape[-1]).astype(query.dtype)


def dot_products(query: jax.Array, key: jax.Array) -> jax.Array:
    """Every query with every key of its head: [B, T, H, D] and [B, S, K, D] -> float32 [B, K, G, T, S].

    Raises ValueError if H is not a multiple of K.
    """
    batch, length, heads, size = query.shape
    key_heads = key.shape[2]
    if heads % key_heads:
        raise ValueError(
            f"{heads} query heads cannot share {key_heads} key heads evenly: make the first a multiple of the second"
        )
    grouped = query.reshape(batch, length, key_heads, heads // key_heads, size)
    return jnp.einsum("btkgd,bskd->bkgts", grouped, key).astype(full())
