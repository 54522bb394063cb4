"""The fields of a model whose attention goes through latent vectors, under MaxText's names, and what is refused."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from impl.later import later

if TYPE_CHECKING:
    from impl.config import ModelConfig

__all__ = ["ATTENTION_TYPES", "PEAKS", "Latent", "latent_problems"]

ATTENTION_TYPES = ("global", "mla")
"""What a decoder's attention is made of: heads with keys and values of their own, or of latent vectors."""

PEAKS = "max_logits"
"""What latent attention sows if its heads are clipped: the largest logit of each row and head [B, H]."""


@dataclass(frozen=True, kw_only=True)
class Latent:
    """What `impl.config.ModelConfig` has for multi-head latent attention. Letters as in `impl.math.mla`.

    attention_type: "mla" makes attention of latents; "global" reads none of the others.
    q_lora_rank: width of the queries' latent; 0 makes queries of the hidden state directly. kv_lora_rank: C.
    qk_nope_head_dim, qk_rope_head_dim, v_head_dim: Dn, Dr, Dv; head_dim is not read.
    mscale, max_position_embeddings: how much sharper attention is in a model that was stretched beyond
        original_max_position_embeddings, see `impl.math.mla.magnitude`.
    use_qk_clip: after each update, kernels of heads whose largest logit in this step exceeds qk_clip_threshold are made
        smaller, see `impl.math.clip`.
    """

    attention_type: str = later("global")
    q_lora_rank: int = later(0)
    kv_lora_rank: int = later(0)
    qk_nope_head_dim: int = later(0)
    qk_rope_head_dim: int = later(0)
    v_head_dim: int = later(0)
    mscale: float = later(1.0)
    max_position_embeddings: int = later(0)
    use_qk_clip: bool = later(False)
    qk_clip_threshold: float = later(100.0)


def latent_problems(config: ModelConfig) -> list[str]:
    """Why attention of that type cannot be built."""
    if config.attention_type not in ATTENTION_TYPES:
        return [f"attention_type={config.attention_type!r} is not one of {', '.join(ATTENTION_TYPES)}"]
    if config.attention_type == "global" and config.use_qk_clip:
        return [
            "use_qk_clip=True with attention_type='global': the kernels that it clips are those of latent attention; "
            "use attention_type='mla', or use_qk_clip=False"
        ]
    if config.attention_type == "global":
        sizes = ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
        return [
            f"{name}={getattr(config, name)} is of latent attention: set attention_type='mla', or leave it 0"
            for name in sizes
            if getattr(config, name)
        ]
    if config.decoder_block != "deepseek":
        return [
            f"attention_type='mla' with decoder_block={config.decoder_block!r}: only deepseek's layers attend through "
            "latents; use 'global'"
        ]
    return [*_size_problems(config), *_unread(config), *(_clip_problems(config) if config.use_qk_clip else ())]


def _size_problems(config: ModelConfig) -> list[str]:
    sizes = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
    found = [f"{name}={getattr(config, name)} must be at least 1" for name in sizes if getattr(config, name) < 1]
    if config.q_lora_rank < 0:
        found.append(f"q_lora_rank={config.q_lora_rank} must not be negative: 0 compresses no queries")
    if config.qk_rope_head_dim % 2:
        found.append(f"qk_rope_head_dim={config.qk_rope_head_dim} is odd: rotary embedding turns pairs of dimensions")
    if config.num_kv_heads != config.num_query_heads:
        found.append(
            f"num_query_heads={config.num_query_heads} and num_kv_heads={config.num_kv_heads} must be equal: a latent "
            "gives every query head a key of its own"
        )
    if config.max_position_embeddings > config.original_max_position_embeddings and config.rope_factor <= 0:
        found.append(f"rope_factor={config.rope_factor} must be positive: its logarithm sharpens attention")
    return found


def _clip_problems(config: ModelConfig) -> list[str]:
    found = []
    if not 0 < config.qk_clip_threshold < math.inf:
        found.append(
            f"qk_clip_threshold={config.qk_clip_threshold} must be a positive number: heads are scaled down until "
            "their largest logit reaches it; use_qk_clip=False clips none"
        )
    if config.attn_logits_soft_cap:
        found.append(
            f"use_qk_clip=True with attn_logits_soft_cap={config.attn_logits_soft_cap}: logits are bounded already; "
            "choose one of the two"
        )
    return found


def _unread(config: ModelConfig) -> list[str]:
    """Fields of other attention that this one would not read."""
    fields = ("use_qk_norm", "fused_qkv", "attention_bias", "attention_sink", "trainable_position_size")
    return [
        f"{name}={getattr(config, name)!r} has no effect with attention_type='mla': leave it unset"
        for name in fields
        if getattr(config, name)
    ]
