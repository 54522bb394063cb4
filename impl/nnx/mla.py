"""Multi-head latent attention in NNX: compressed queries, keys and values, and the cache of latents."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from impl.config import ModelConfig
from impl.latent import PEAKS
from impl.math.attention import attend
from impl.math.clip import largest_logits
from impl.math.masks import cached_mask, training_mask, without_padding
from impl.math.mla import compressed, expanded, placed
from impl.nnx.attention import KVCache
from impl.nnx.layers import RMSNorm, dense
from impl.serving import kv

__all__ = ["LatentAttention"]


class LatentAttention(nnx.Module):
    """Self-attention [B, T, E] -> [B, T, E] whose keys and values are made of one latent a token.

    Arguments as Attention's. The cache keeps latents and the keys' shared part; every step makes keys and values of
    all of them again. In training it sows, as nnx.Intermediate, what QK-Clip measures, if the configuration asks.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, window: int = -1, kind: str = "global", slots: int = 0):
        self.config, self.window, self.kind = config, window, kind
        heads, rank, narrow = config.num_query_heads, config.kv_lora_rank, (config.emb_dim,)
        still, turning, size = config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim
        wide = (heads, still + turning)
        if config.q_lora_rank:
            compact = (config.q_lora_rank,)
            self.wq_a = dense(config, narrow, compact, ("embed", "q_lora_up_proj"), False, rngs)
            self.q_norm = self._norm(config.q_lora_rank, rngs)
            self.wq_b = dense(config, compact, wide, ("q_lora", "q_heads", "kv"), False, rngs)
        else:
            self.query = dense(config, narrow, wide, ("embed", "q_heads", "kv"), False, rngs)
        self.wkv_a = dense(config, narrow, (rank + turning,), ("embed", "kv_lora_up_proj"), False, rngs)
        self.kv_norm = self._norm(rank, rngs)
        axes = ("kv_lora", "kv_heads", "kv_head_dim")
        self.wkv_b = dense(config, (rank,), (heads, still + size), axes, False, rngs)
        self.out = dense(config, (heads, size), narrow, ("heads", "kv", "embed"), False, rngs)
        if slots:
            self.MlaKVCache_0 = KVCache(config, slots)

    def __call__(self, x: jax.Array, positions: jax.Array, segment_ids: jax.Array, mode: kv.Mode) -> jax.Array:
        config, rope = self.config, self.config.rope_of(self.kind)
        query = placed(self._query(x), positions, rope) * jnp.asarray(config.query_scale, config.dtype)
        query = checkpoint_name(query, "query_proj")
        latent, shared = compressed(self.wkv_a(x), positions, rope)
        latent = self.kv_norm(latent)
        if mode == "train":
            mask = training_mask(segment_ids, window=self.window)
        else:
            cached = self.MlaKVCache_0(mode, kv.Entries(latent[:, :, None], shared, positions, segment_ids))
            latent, shared = cached.key[:, :, 0], cached.value
            mask = cached_mask(positions, cached.positions, cached.valid, window=self.window)
        key, value = expanded(self.wkv_b(latent), shared, config.qk_nope_head_dim)
        key, value = checkpoint_name(key, "key_proj"), checkpoint_name(value, "value_proj")
        if config.use_qk_clip and mode == "train":
            self.sow(nnx.Intermediate, PEAKS, largest_logits(query, key, without_padding(mask, segment_ids)))
        mixed = attend(query, key, value, mask, soft_cap=config.attn_logits_soft_cap)
        return checkpoint_name(self.out(checkpoint_name(mixed, "attention_out")), "out_proj")

    def _query(self, x: jax.Array) -> jax.Array:
        """Queries [B, T, H, Dn+Dr] of x, through a latent of their own where the configuration has one."""
        return self.wq_b(self.q_norm(self.wq_a(x))) if self.config.q_lora_rank else self.query(x)

    def _norm(self, features: int, rngs: nnx.Rngs) -> RMSNorm:
        config = self.config
        return RMSNorm(
            features,
            dtype=jnp.dtype(config.dtype),
            weight_dtype=jnp.dtype(config.weight_dtype),
            epsilon=config.normalization_layer_epsilon,
            rngs=rngs,
        )
