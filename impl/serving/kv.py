"""The key/value cache of one attention layer as plain arrays: what its leaves are, writing to it, reading from it.

Letters as in `impl.math`, and P prefill length, A generated length (P + A is max_target_length). Every slot (row of B)
keeps a prefill part, written at once, and an autoregressive part, written one token at a time at the slot's own length.
Positions are stored, so that masks need no knowledge of how a slot was filled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from impl.config import ModelConfig

__all__ = ["Cached", "Entries", "Leaf", "Mode", "Sizes", "declare", "read", "sizes", "write"]

Mode = Literal["train", "prefill", "autoregressive"]


class Entries(NamedTuple):
    """New keys and values [B, T, K, D], their positions and segment ids [B, T]; segment 0 marks padding.

    Latent attention keeps what it makes both of: as keys the latent [B, T, 1, C], as values the keys' shared part
    [B, T, 1, Dr], in the letters of `impl.math.mla`.
    """

    key: jax.Array
    value: jax.Array
    positions: jax.Array
    segment_ids: jax.Array


class Cached(NamedTuple):
    """Everything a slot may attend to: key, value [B, P+A, K, D], positions int32 and valid bool [B, P+A].

    Key and value as in Entries.
    """

    key: jax.Array
    value: jax.Array
    positions: jax.Array
    valid: jax.Array


@dataclass(frozen=True)
class Leaf:
    """Shape, dtype and logical axes of a cache leaf."""

    shape: tuple[int, ...]
    dtype: jnp.dtype
    axes: tuple[str | None, ...]


@dataclass(frozen=True)
class Sizes:
    """batch B, prefill P, generated A, heads K, size D of a key, value_size; dtype of keys and values; name of K."""

    batch: int
    prefill: int
    generated: int
    heads: int
    size: int
    value_size: int
    dtype: str
    heads_axis: str = "cache_heads"


def sizes(config: ModelConfig, batch: int) -> Sizes:
    """The cache sizes of one layer for `batch` slots."""
    prefill = config.max_prefill_predict_length
    generated = config.max_target_length - prefill
    if config.attention_type == "mla":
        latent, shared = config.kv_lora_rank, config.qk_rope_head_dim
        return Sizes(batch, prefill, generated, 1, latent, shared, config.dtype, "cache_heads_none")
    size = config.head_dim
    return Sizes(batch, prefill, generated, config.num_kv_heads, size, size, config.dtype)


def declare(of: Sizes) -> dict[str, Leaf]:
    """Leaf name -> Leaf, MaxText's names where it has one. A fresh cache is all zeros: nothing in it is valid."""
    b, p, a = of.batch, of.prefill, of.generated
    axes = ("cache_batch", "cache_sequence", of.heads_axis, "cache_kv")
    content, whole = jnp.dtype(of.dtype), jnp.dtype("int32")
    return {
        "cached_prefill_key": Leaf((b, p, of.heads, of.size), content, axes),
        "cached_prefill_value": Leaf((b, p, of.heads, of.value_size), content, axes),
        "cache_prefill_position": Leaf((b, p), whole, axes[:2]),
        "cache_prefill_segment_id": Leaf((b, p), whole, axes[:2]),
        "cached_ar_key": Leaf((b, a, of.heads, of.size), content, axes),
        "cached_ar_value": Leaf((b, a, of.heads, of.value_size), content, axes),
        "cache_ar_position": Leaf((b, a), whole, axes[:2]),
        "cache_ar_segment_id": Leaf((b, a), whole, axes[:2]),
        "cached_ar_lengths": Leaf((b,), whole, axes[:1]),
    }


def write(mode: Mode, leaves: Mapping[str, jax.Array], new: Entries) -> dict[str, jax.Array]:
    """The leaves after `new` was written: as a prompt from column 0 ("prefill"), or at each slot's length.

    Padding of a prompt is written with its segment id 0, which `read` calls invalid. A slot whose generated token has
    segment id 0 is left as it is, bit for bit; so is a slot that is full.

    Raises ValueError if a prompt is longer than the prefill part, or more than one token is generated at a time.
    """
    length, room = new.key.shape[1], leaves["cached_prefill_key"].shape[1]
    if mode == "prefill":
        if length > room:
            raise ValueError(f"prompt of {length} tokens does not fit max_prefill_predict_length={room}: raise it")
        return {**leaves, **_prefilled(leaves, new)}
    if mode != "autoregressive" or length != 1:
        raise ValueError(f"mode {mode!r} with {length} tokens: the cache takes a prompt, or one token at a time")
    return {**leaves, **_appended(leaves, new)}


def _prefilled(leaves: Mapping[str, jax.Array], new: Entries) -> dict[str, jax.Array]:
    length = new.key.shape[1]
    parts = {
        "cached_prefill_key": new.key,
        "cached_prefill_value": new.value,
        "cache_prefill_position": new.positions,
        "cache_prefill_segment_id": new.segment_ids,
    }
    return {name: leaves[name].at[:, :length].set(part.astype(leaves[name].dtype)) for name, part in parts.items()}


def _appended(leaves: Mapping[str, jax.Array], new: Entries) -> dict[str, jax.Array]:
    lengths, room = leaves["cached_ar_lengths"], leaves["cached_ar_key"].shape[1]
    rows, taken = jnp.arange(lengths.shape[0]), (new.segment_ids[:, 0] != 0) & (lengths < room)
    columns = jnp.where(taken, lengths, room)
    parts = {
        "cached_ar_key": new.key[:, 0],
        "cached_ar_value": new.value[:, 0],
        "cache_ar_position": new.positions[:, 0],
        "cache_ar_segment_id": new.segment_ids[:, 0],
    }
    # Column `room` is out of bounds: what is written there is dropped.
    written = {
        name: leaves[name].at[rows, columns].set(part.astype(leaves[name].dtype), mode="drop")
        for name, part in parts.items()
    }
    return {**written, "cached_ar_lengths": lengths + taken.astype(lengths.dtype)}


def read(leaves: Mapping[str, jax.Array]) -> Cached:
    """Prefill and autoregressive parts side by side."""
    prefill = ("cached_prefill_key", "cached_prefill_value", "cache_prefill_position", "cache_prefill_segment_id")
    generated = ("cached_ar_key", "cached_ar_value", "cache_ar_position", "cache_ar_segment_id")
    key, value, positions, segments = (
        jnp.concatenate([leaves[first], leaves[second]], axis=1)
        for first, second in zip(prefill, generated, strict=True)
    )
    return Cached(key, value, positions, segments != 0)
