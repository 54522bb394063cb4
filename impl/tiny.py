"""The families' shapes in small: what each preset's decoder is made of, on axes no two of which are alike."""

from __future__ import annotations

from typing import Any

from impl.config import ModelConfig

__all__ = ["FAMILIES", "MIXED", "family"]

FAMILIES: dict[str, dict[str, Any]] = {
    "llama2": {},
    "llama3.1": {"rope_type": "llama3.1", "rope_max_timescale": 500_000},
    "mistral": {"decoder_block": "mistral", "rope_type": "yarn", "rope_interleave": False},
    "qwen3": {
        "decoder_block": "qwen3",
        "use_qk_norm": True,
        "logits_via_embedding": True,
        "rope_max_timescale": 1_000_000,
        "normalization_layer_epsilon": 1e-6,
    },
    "gemma2": {
        "decoder_block": "gemma2",
        "logits_via_embedding": True,
        "normalize_embedding_logits": True,
        "final_logits_soft_cap": 30.0,
        "attn_logits_soft_cap": 50.0,
        "sliding_window_size": 5,
        "use_post_attn_norm": True,
        "use_post_ffw_norm": True,
        "mlp_activations": ("gelu", "linear"),
    },
    "gpt3": {
        "decoder_block": "gpt3",
        "num_kv_heads": 4,
        "fused_qkv": True,
        "mlp_activations": ("gelu",),
        "trainable_position_size": 32,
        "logits_via_embedding": True,
    },
    "fused": {"fused_qkv": True, "attention_bias": True, "mlp_bias": True},
}
"""Family -> fields in which it differs from the tiny llama2. "fused" is llama2 with fused qkv and biases."""

MIXED: dict[str, dict[str, Any]] = {
    "gemma3": {
        "decoder_block": "gemma3",
        "num_decoder_layers": 7,
        "layer_cycle": ("local", "local", "global"),
        "logits_via_embedding": True,
        "normalize_embedding_logits": True,
        "sliding_window_size": 5,
        "use_qk_norm": True,
        "use_post_attn_norm": True,
        "use_post_ffw_norm": True,
        "mlp_activations": ("gelu", "linear"),
        "local_rope_max_timescale": 10_000,
        "rope_max_timescale": 1_000_000,
        "rope_linear_scaling_factor": 8.0,
        "normalization_layer_epsilon": 1e-6,
    },
}
"""The same for families whose layers are not all alike or hold experts; they are too costly to be everywhere."""


def family(name: str, **settings: Any) -> ModelConfig:
    """The tiny model of a family, with some fields replaced."""
    return ModelConfig(name=f"tiny-{name}").overriding({**(FAMILIES | MIXED)[name], **settings})
