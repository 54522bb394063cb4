"""Grouped-query self-attention in Linen: projections, norms, positions and the key/value cache around `impl.math`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from impl.config import ModelConfig
from impl.linen.layers import RMSNorm, dense
from impl.math.attention import attend
from impl.math.masks import cached_mask, training_mask
from impl.math.rope import rotate
from impl.serving import kv
from impl.sharding.memory import fetching

__all__ = ["Attention", "KVCache"]


class KVCache(nn.Module):
    """The cache of one attention layer, in the collection "cache". Leaves and their meaning: `impl.serving.kv`."""

    config: ModelConfig
    mode: kv.Mode

    @nn.compact
    def __call__(self, key: jax.Array, value: jax.Array, positions: jax.Array, segment_ids: jax.Array) -> kv.Cached:
        sizes = kv.sizes(self.config, key.shape[0])
        variables = {
            name: self.variable(
                "cache", name, nn.with_logical_partitioning(jnp.zeros, leaf.axes), leaf.shape, leaf.dtype
            )
            for name, leaf in kv.declare(sizes).items()
        }
        leaves = {name: variable.value for name, variable in variables.items()}
        leaves = kv.write(self.mode, leaves, kv.Entries(key, value, positions, segment_ids))
        for name, variable in variables.items():
            variable.value = leaves[name]
        return kv.read(leaves)


class Attention(nn.Module):
    """Self-attention [B, T, E] -> [B, T, E]. `window` as in `impl.math.masks`: -1 attends to everything before.

    kind: the layer's, as in `impl.stacks`; it decides how far its heads are turned.
    """

    config: ModelConfig
    mode: kv.Mode
    window: int = -1
    kind: str = "global"

    @nn.compact
    def __call__(self, x: jax.Array, positions: jax.Array, segment_ids: jax.Array) -> jax.Array:
        config = self.config
        query, key, value = self._project(x)
        if config.use_qk_norm:
            query, key = self._normed("query_norm", query), self._normed("key_norm", key)
        if not config.trainable_position_size:
            rope = config.rope_of(self.kind)
            query, key = rotate(query, positions, rope), rotate(key, positions, rope)
        if config.query_scale != 1.0:
            query = query * jnp.asarray(config.query_scale, query.dtype)
        query, key = checkpoint_name(query, "query_proj"), checkpoint_name(key, "key_proj")
        value = checkpoint_name(value, "value_proj")
        if self.mode == "train":
            mask = training_mask(segment_ids, window=self.window)
        else:
            cached = KVCache(config, self.mode, name="KVCache_0")(key, value, positions, segment_ids)
            key, value = cached.key, cached.value
            mask = cached_mask(positions, cached.positions, cached.valid, window=self.window)
        sinks: tuple[jax.Array, ...] = ()
        if config.attention_sink:
            first = nn.with_logical_partitioning(nn.initializers.zeros, (None,))
            sinks = (self.param("sinks", first, (config.num_query_heads,), jnp.dtype(config.weight_dtype)),)
        mixed = attend(query, key, value, mask, soft_cap=config.attn_logits_soft_cap, sinks=sinks)
        mixed = checkpoint_name(mixed, "attention_out")
        out = dense(config, "out", (config.emb_dim,), ("heads", "kv", "embed"), 2, self._bias)(mixed)
        return checkpoint_name(out, "out_proj")

    @property
    def _bias(self) -> bool:
        return self.config.attention_bias or self.config.decoder_block == "gpt3"

    def _normed(self, name: str, heads: jax.Array) -> jax.Array:
        """Heads [B, T, H, D], each normed by itself; olmo3 norms all of a place together."""
        config = self.config
        dtypes = jnp.dtype(config.dtype), jnp.dtype(config.weight_dtype)
        norm = RMSNorm(*dtypes, config.normalization_layer_epsilon, config.norm_offset, fetching(config), name=name)
        together = config.decoder_block == "olmo3"
        return norm(heads.reshape(*heads.shape[:2], -1)).reshape(heads.shape) if together else norm(heads)

    def _project(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        config, bias = self.config, self._bias
        heads, keys, size = config.num_query_heads, config.num_kv_heads, config.head_dim
        if config.fused_qkv and config.decoder_block == "gpt3":
            fused = dense(config, "qkv_proj", (3, heads, size), ("embed", "qkv", "heads", "kv"), 1, bias)(x)
            return fused[:, :, 0], fused[:, :, 1], fused[:, :, 2]
        if config.fused_qkv:
            fused = dense(config, "qkv_proj", (heads + 2 * keys, size), ("embed", "heads", "kv"), 1, bias)(x)
            query, key, value = jnp.split(fused, (heads, heads + keys), axis=2)
            return query, key, value
        plain = config.decoder_block == "gpt3"
        query_axes = ("embed", "heads" if plain else "q_heads", "kv")
        key_axes = ("embed", "heads", "kv") if plain else ("embed", "kv_heads", "kv_head_dim")
        query = dense(config, "query", (heads, size), query_axes, 1, bias)(x)
        key = dense(config, "key", (keys, size), key_axes, 1, bias)(x)
        value = dense(config, "value", (keys, size), key_axes, 1, bias)(x)
        return query, key, value
