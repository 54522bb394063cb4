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

_LATENT: dict[str, Any] = {
    "decoder_block": "deepseek",
    "num_kv_heads": 4,
    "num_decoder_layers": 3,
    "first_num_dense_layers": 1,
    "num_experts": 8,
    "num_experts_per_tok": 3,
    "moe_mlp_dim": 14,
    "shared_experts": 2,
    "attention_type": "mla",
    "kv_lora_rank": 11,
    "qk_nope_head_dim": 7,
    "qk_rope_head_dim": 10,
    "v_head_dim": 12,
    "rope_type": "yarn",
    "original_max_position_embeddings": 64,
    "max_position_embeddings": 2560,
    "mscale": 0.707,
}
"""deepseek with attention through latents, stretched 40 times."""

MIXED: dict[str, dict[str, Any]] = {
    "mixtral": {
        "decoder_block": "mixtral",
        "num_experts": 5,
        "num_experts_per_tok": 2,
        "moe_mlp_dim": 14,
        "rope_max_timescale": 1_000_000,
        "load_balance_loss_weight": 0.03,
    },
    "qwen3_moe": {
        "decoder_block": "qwen3_moe",
        "use_qk_norm": True,
        "num_experts": 7,
        "num_experts_per_tok": 3,
        "moe_mlp_dim": 11,
        "norm_topk_prob": True,
        "sparse_matmul": True,
        "load_balance_loss_weight": 0.02,
        "rope_max_timescale": 10_000_000,
        "normalization_layer_epsilon": 1e-6,
    },
    "gpt_oss": {
        "decoder_block": "gpt_oss",
        "num_decoder_layers": 4,
        "num_experts": 5,
        "num_experts_per_tok": 2,
        "moe_mlp_dim": 13,
        "routed_bias": True,
        "mlp_bias": True,
        "attention_bias": True,
        "attention_sink": True,
        "sliding_window_size": 5,
        "mlp_activations": ("sigmoid", "linear"),
        "mlp_activations_limit": 1.5,
        "rope_type": "yarn",
        "rope_max_timescale": 150_000,
        "rope_factor": 32.0,
        "rope_interleave": False,
        "rope_truncate": False,
        "rope_attention_scaling": True,
        "load_balance_loss_weight": 0.02,
    },
    "deepseek": {
        "decoder_block": "deepseek",
        "num_decoder_layers": 5,
        "first_num_dense_layers": 2,
        "num_experts": 8,
        "num_experts_per_tok": 3,
        "moe_mlp_dim": 14,
        "shared_experts": 2,
        "routed_score_func": "sigmoid",
        "routed_scaling_factor": 2.5,
        "n_routing_groups": 4,
        "topk_routing_group": 2,
        "routed_bias": True,
        "routed_bias_update_rate": 0.01,
        "load_balance_loss_weight": 0.02,
    },
    "deepseek_mla": {
        **_LATENT,
        "routed_score_func": "softmax",
        "load_balance_loss_weight": 0.03,
    },
    "deepseek_mla_lora": {
        **_LATENT,
        "q_lora_rank": 15,
        "routed_score_func": "sigmoid",
        "routed_scaling_factor": 2.5,
        "routed_bias": True,
        "routed_bias_update_rate": 0.01,
        "load_balance_loss_weight": 0.02,
    },
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
    "olmo3": {
        "decoder_block": "olmo3",
        "num_decoder_layers": 4,
        "layer_cycle": ("local", "global"),
        "sliding_window_size": 5,
        "use_qk_norm": True,
        "rope_type": "yarn",
        "rope_max_timescale": 500_000,
        "rope_factor": 8.0,
        "original_max_position_embeddings": 64,
        "rope_interleave": False,
        "rope_attention_scaling": True,
        "normalization_layer_epsilon": 1e-6,
    },
    "zero_centred": {
        "decoder_block": "qwen3",
        "use_qk_norm": True,
        "zero_centred_norm": True,
        "rope_max_timescale": 10_000_000,
        "normalization_layer_epsilon": 1e-6,
    },
}
"""The same for families whose layers are not all alike or hold experts; they are too costly to be everywhere."""


def family(name: str, **settings: Any) -> ModelConfig:
    """The tiny model of a family, with some fields replaced."""
    return ModelConfig(name=f"tiny-{name}").overriding({**(FAMILIES | MIXED)[name], **settings})
