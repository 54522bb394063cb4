"""Multi-head latent attention in Linen: compressed queries, keys and values, and the cache of latents."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from impl.config import ModelConfig
from impl.latent import PEAKS
from impl.linen.attention import KVCache
from impl.linen.layers import RMSNorm, dense
from impl.math.attention import attend
from impl.math.clip import largest_logits
from impl.math.masks import cached_mask, training_mask, without_padding
from impl.math.mla import compressed, expanded, placed
from impl.serving import kv

__all__ = ["LatentAttention"]


class LatentAttention(nn.Module):
    """Self-attention [B, T, E] -> [B, T, E] whose keys and values are made of one latent a token.

    Fields as Attention's. The cache keeps latents and the keys' shared part; every step makes keys and values of all
    of them again. In training it sows, into "intermediates", what QK-Clip measures, if the configuration asks.
    """

    config: ModelConfig
    mode: kv.Mode
    window: int = -1
    kind: str = "global"

    @nn.compact
    def __call__(self, x: jax.Array, positions: jax.Array, segment_ids: jax.Array) -> jax.Array:
        config, rope = self.config, self.config.rope_of(self.kind)
        query = placed(self._query(x), positions, rope) * jnp.asarray(config.query_scale, config.dtype)
        query = checkpoint_name(query, "query_proj")
        width = config.kv_lora_rank + config.qk_rope_head_dim
        projected = dense(config, "wkv_a", (width,), ("embed", "kv_lora_up_proj"), 1, False)(x)
        latent, shared = compressed(projected, positions, rope)
        latent = self._norm("kv_norm")(latent)
        if self.mode == "train":
            mask = training_mask(segment_ids, window=self.window)
        else:
            cache = KVCache(config, self.mode, name="MlaKVCache_0")
            cached = cache(latent[:, :, None], shared, positions, segment_ids)
            latent, shared = cached.key[:, :, 0], cached.value
            mask = cached_mask(positions, cached.positions, cached.valid, window=self.window)
        key, value = expanded(self._up(latent), shared, config.qk_nope_head_dim)
        key, value = checkpoint_name(key, "key_proj"), checkpoint_name(value, "value_proj")
        if config.use_qk_clip and self.mode == "train":
            self.sow("intermediates", PEAKS, largest_logits(query, key, without_padding(mask, segment_ids)))
        mixed = attend(query, key, value, mask, soft_cap=config.attn_logits_soft_cap)
        mixed = checkpoint_name(mixed, "attention_out")
        out = dense(config, "out", (config.emb_dim,), ("heads", "kv", "embed"), 2, False)(mixed)
        return checkpoint_name(out, "out_proj")

    def _query(self, x: jax.Array) -> jax.Array:
        """Queries [B, T, H, Dn+Dr] of x, through a latent of their own where the configuration has one."""
        config = self.config
        features = (config.num_query_heads, config.qk_nope_head_dim + config.qk_rope_head_dim)
        if not config.q_lora_rank:
            return dense(config, "query", features, ("embed", "q_heads", "kv"), 1, False)(x)
        latent = dense(config, "wq_a", (config.q_lora_rank,), ("embed", "q_lora_up_proj"), 1, False)(x)
        return dense(config, "wq_b", features, ("q_lora", "q_heads", "kv"), 1, False)(self._norm("q_norm")(latent))

    def _up(self, latent: jax.Array) -> jax.Array:
        """[B, S, C] -> what the heads have of their own in keys and values [B, S, H, Dn+Dv]."""
        config = self.config
        features = (config.num_query_heads, config.qk_nope_head_dim + config.v_head_dim)
        return dense(config, "wkv_b", features, ("kv_lora", "kv_heads", "kv_head_dim"), 1, False)(latent)

    def _norm(self, name: str) -> RMSNorm:
        config = self.config
        epsilon = config.normalization_layer_epsilon
        return RMSNorm(jnp.dtype(config.dtype), jnp.dtype(config.weight_dtype), epsilon, name=name)
