"""Why a configuration cannot be built, each reason a sentence with the values and the cure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from impl.math.gates import ACTIVATIONS

if TYPE_CHECKING:
    from impl.config import ModelConfig

__all__ = ["BLOCKS", "DTYPES", "REMAT_POLICIES", "problems"]

BLOCKS = ("deepseek", "gemma2", "gemma3", "gpt3", "gpt_oss", "llama2", "mistral", "mixtral", "qwen3", "qwen3_moe")
"""Decoder blocks that are implemented."""

REMAT_POLICIES = ("none", "full", "minimal", "save_dot_except_mlp")
DTYPES = ("float32", "bfloat16", "float64")


def problems(config: ModelConfig) -> list[str]:
    """Every reason for which `config` cannot be built, each a sentence with the values and the cure."""
    return [*_size_problems(config), *_choice_problems(config), *_combination_problems(config)]


def _size_problems(config: ModelConfig) -> list[str]:
    positive = (
        *("vocab_size", "emb_dim", "num_query_heads", "num_kv_heads", "head_dim", "mlp_dim", "num_decoder_layers"),
        *("max_target_length", "max_prefill_predict_length", "rope_min_timescale", "rope_max_timescale"),
    )
    problems = [f"{name}={getattr(config, name)} must be at least 1" for name in positive if getattr(config, name) < 1]
    if problems:
        return problems
    if config.num_query_heads % config.num_kv_heads:
        problems.append(
            f"num_query_heads={config.num_query_heads} is not a multiple of num_kv_heads={config.num_kv_heads}: "
            "every key head serves the same number of query heads"
        )
    if config.head_dim % 2 and config.decoder_block != "gpt3":
        problems.append(f"head_dim={config.head_dim} is odd: rotary embedding turns pairs of dimensions")
    if config.max_prefill_predict_length >= config.max_target_length:
        problems.append(
            f"max_prefill_predict_length={config.max_prefill_predict_length} leaves no room to generate in "
            f"max_target_length={config.max_target_length}: make it smaller"
        )
    if not 0.0 <= config.dropout_rate < 1.0:
        problems.append(f"dropout_rate={config.dropout_rate} must lie in [0, 1)")
    never_negative = (
        *("normalization_layer_epsilon", "sliding_window_size", "trainable_position_size"),
        *("final_logits_soft_cap", "attn_logits_soft_cap"),
    )
    return problems + [
        f"{name}={getattr(config, name)} must not be negative" for name in never_negative if getattr(config, name) < 0
    ]


def _choice_problems(config: ModelConfig) -> list[str]:
    choices: dict[str, tuple[Any, ...]] = {
        "decoder_block": BLOCKS,
        "rope_type": ("default", "llama3.1", "yarn"),
        "dtype": DTYPES,
        "weight_dtype": DTYPES,
        "remat_policy": REMAT_POLICIES,
        "param_scan_axis": (0, 1),
        "matmul_precision": ("default", "high", "highest"),
    }
    problems = [
        f"{name}={getattr(config, name)!r} is not one of {', '.join(map(str, known))}"
        for name, known in choices.items()
        if getattr(config, name) not in known
    ]
    unknown = [name for name in config.mlp_activations if name not in ACTIVATIONS]
    if unknown or not config.mlp_activations:
        problems.append(f"mlp_activations={config.mlp_activations}: choose from {', '.join(sorted(ACTIVATIONS))}")
    return problems


def _combination_problems(config: ModelConfig) -> list[str]:
    problems = []
    if config.decoder_block == "gpt3" and config.num_query_heads != config.num_kv_heads:
        problems.append(
            f"gpt3 has plain multi-head attention: num_query_heads={config.num_query_heads} and "
            f"num_kv_heads={config.num_kv_heads} must be equal"
        )
    if config.decoder_block == "gpt3" and config.trainable_position_size < config.max_target_length:
        problems.append(
            f"gpt3 learns its positions: trainable_position_size={config.trainable_position_size} must be at least "
            f"max_target_length={config.max_target_length}"
        )
    for name in ("normalize_embedding_logits", "round_tied_table"):
        if getattr(config, name) and not config.logits_via_embedding:
            problems.append(f"{name}=True has no effect with logits_via_embedding=False: set one of the two")
    if config.rope_type == "yarn" and config.rope_max_timescale < 2:
        problems.append(
            f"rope_max_timescale={config.rope_max_timescale} gives every dimension one frequency, and yarn then has "
            "nothing to interpolate between: use more than 1"
        )
    return problems
