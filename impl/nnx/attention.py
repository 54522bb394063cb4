"""Grouped-query self-attention in NNX: projections, norms, positions and the key/value cache around `impl.math`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from impl.config import ModelConfig
from impl.math.attention import attend
from impl.math.masks import cached_mask, training_mask
from impl.math.rope import rotate
from impl.nnx.layers import RMSNorm, dense, partitioned
from impl.serving import kv
from impl.sharding.memory import fetching

__all__ = ["Attention", "KVCache"]


class KVCache(nnx.Module):
    """The cache of one attention layer, in Variables of type nnx.Cache. Leaves and their meaning: `impl.serving.kv`."""

    def __init__(self, config: ModelConfig, batch: int):
        for name, leaf in kv.declare(kv.sizes(config, batch)).items():
            setattr(self, name, nnx.Cache(jnp.zeros(leaf.shape, leaf.dtype), **partitioned(leaf.axes)))

    def __call__(self, mode: kv.Mode, new: kv.Entries) -> kv.Cached:
        variables = {name: value for name, value in vars(self).items() if isinstance(value, nnx.Cache)}
        leaves = kv.write(mode, {name: variable[...] for name, variable in variables.items()}, new)
        for name, variable in variables.items():
            variable[...] = leaves[name]
        return kv.read(leaves)


class Attention(nnx.Module):
    """Self-attention [B, T, E] -> [B, T, E]. `window` as in `impl.math.masks`: -1 attends to everything before.

    kind: the layer's, as in `impl.stacks`; it decides how far its heads are turned. slots: rows of the cache; 0 makes
    none, and the layer can only be trained.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, window: int = -1, kind: str = "global", slots: int = 0):
        self.config, self.window, self.kind = config, window, kind
        heads, keys, size = config.num_query_heads, config.num_kv_heads, config.head_dim
        bias = config.attention_bias or config.decoder_block == "gpt3"
        narrow, plain = (config.emb_dim,), config.decoder_block == "gpt3"
        if config.fused_qkv and plain:
            axes: tuple[str, ...] = ("embed", "qkv", "heads", "kv")
            self.qkv_proj = dense(config, narrow, (3, heads, size), axes, bias, rngs)
        elif config.fused_qkv:
            self.qkv_proj = dense(config, narrow, (heads + 2 * keys, size), ("embed", "heads", "kv"), bias, rngs)
        else:
            key_axes = ("embed", "heads", "kv") if plain else ("embed", "kv_heads", "kv_head_dim")
            query_axes = ("embed", "heads" if plain else "q_heads", "kv")
            self.query = dense(config, narrow, (heads, size), query_axes, bias, rngs)
            self.key = dense(config, narrow, (keys, size), key_axes, bias, rngs)
            self.value = dense(config, narrow, (keys, size), key_axes, bias, rngs)
        if config.use_qk_norm:
            self.query_norm, self.key_norm = self._norm(heads, rngs), self._norm(keys, rngs)
        self.out = dense(config, (heads, size), narrow, ("heads", "kv", "embed"), bias, rngs)
        if config.attention_sink:
            self.sinks = nnx.Param(jnp.zeros((heads,), jnp.dtype(config.weight_dtype)), **partitioned((None,)))
        if slots:
            self.KVCache_0 = KVCache(config, slots)

    def __call__(self, x: jax.Array, positions: jax.Array, segment_ids: jax.Array, mode: kv.Mode) -> jax.Array:
        config = self.config
        query, key, value = self._project(x)
        if config.use_qk_norm:
            query, key = self._normed(self.query_norm, query), self._normed(self.key_norm, key)
        if not config.trainable_position_size:
            rope = config.rope_of(self.kind)
            query, key = rotate(query, positions, rope), rotate(key, positions, rope)
        if config.query_scale != 1.0:
            query = query * jnp.asarray(config.query_scale, query.dtype)
        query, key = checkpoint_name(query, "query_proj"), checkpoint_name(key, "key_proj")
        value = checkpoint_name(value, "value_proj")
        if mode == "train":
            mask = training_mask(segment_ids, window=self.window)
        else:
            cached = self.KVCache_0(mode, kv.Entries(key, value, positions, segment_ids))
            key, value = cached.key, cached.value
            mask = cached_mask(positions, cached.positions, cached.valid, window=self.window)
        sinks = (self.sinks[...],) if config.attention_sink else ()
        mixed = attend(query, key, value, mask, soft_cap=config.attn_logits_soft_cap, sinks=sinks)
        return checkpoint_name(self.out(checkpoint_name(mixed, "attention_out")), "out_proj")

    def _norm(self, heads: int, rngs: nnx.Rngs) -> RMSNorm:
        """Of each head by itself; olmo3 norms all heads of a place together."""
        config = self.config
        norm = RMSNorm(
            config.head_dim * (heads if config.decoder_block == "olmo3" else 1),
            dtype=jnp.dtype(config.dtype),
            weight_dtype=jnp.dtype(config.weight_dtype),
            epsilon=config.normalization_layer_epsilon,
            offset=config.norm_offset,
            rngs=rngs,
        )
        norm.fetch = fetching(config)
        return norm

    def _normed(self, norm: RMSNorm, heads: jax.Array) -> jax.Array:
        """Heads [B, T, H, D] through `norm`."""
        together = self.config.decoder_block == "olmo3"
        return norm(heads.reshape(*heads.shape[:2], -1)).reshape(heads.shape) if together else norm(heads)

    def _project(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        config = self.config
        if not config.fused_qkv:
            return self.query(x), self.key(x), self.value(x)
        fused = self.qkv_proj(x)
        if config.decoder_block == "gpt3":
            return fused[:, :, 0], fused[:, :, 1], fused[:, :, 2]
        heads, keys = config.num_query_heads, config.num_kv_heads
        query, key, value = jnp.split(fused, (heads, heads + keys), axis=2)
        return query, key, value
