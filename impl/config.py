"""The one description of a model: frozen, validated once, the same for every side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from impl.math.gates import ACTIVATIONS
from impl.math.rope import Frequencies

__all__ = ["BLOCKS", "ConfigError", "ModelConfig", "Rope", "tiny"]

Rope = Literal["default", "llama3.1", "yarn"]

BLOCKS = ("gemma2", "gpt3", "llama2", "mistral", "qwen3")
"""Decoder blocks that are implemented."""

REMAT_POLICIES = ("none", "full", "minimal", "save_dot_except_mlp")
DTYPES = ("float32", "bfloat16", "float64")


class ConfigError(ValueError):
    """A configuration that makes no sense. The message names the fields, their values and the cure."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that shapes the model. Letters as in `impl.math`: V, E, H, K, D, F; L decoder layers.

    num_decoder_layers counts blocks: a gemma2 block holds a local and a global sublayer (MaxText's counting).
    dtype is the dtype of computation, weight_dtype the dtype of parameters. param_scan_axis is where a scanned stack
    puts its L. round_tied_table rounds the embedding table to bfloat16 before a tied head multiplies by it, as MaxText
    does. The three flags choose the side in `impl.sides` and nowhere else; the model never reads them.
    """

    name: str = "tiny"
    decoder_block: str = "llama2"
    vocab_size: int = 259
    emb_dim: int = 20
    num_query_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int = 6
    mlp_dim: int = 44
    num_decoder_layers: int = 3
    mlp_activations: tuple[str, ...] = ("silu", "linear")
    logits_via_embedding: bool = False
    normalize_embedding_logits: bool = False
    round_tied_table: bool = False
    final_logits_soft_cap: float = 0.0
    attn_logits_soft_cap: float = 0.0
    sliding_window_size: int = 0
    normalization_layer_epsilon: float = 1e-5
    use_qk_norm: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    fused_qkv: bool = False
    use_post_attn_norm: bool = False
    use_post_ffw_norm: bool = False
    trainable_position_size: int = 0
    rope_type: Rope = "default"
    rope_min_timescale: int = 1
    rope_max_timescale: int = 10_000
    rope_linear_scaling_factor: float = 1.0
    rope_factor: float = 40.0
    original_max_position_embeddings: int = 4096
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    rope_interleave: bool = True
    rope_truncate: bool = True
    rope_attention_scaling: bool = False
    dropout_rate: float = 0.0
    dtype: str = "float32"
    weight_dtype: str = "float32"
    matmul_precision: str = "highest"
    scan_layers: bool = False
    param_scan_axis: int = 1
    remat_policy: str = "none"
    max_target_length: int = 24
    max_prefill_predict_length: int = 8
    pure_nnx: bool = True
    enable_nnx: bool = True
    pure_nnx_decoder: bool = True

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise ConfigError(f"{self.name}: {problem}")

    @property
    def rope(self) -> Frequencies:
        """The rotary frequencies of this model."""
        return Frequencies(
            kind=self.rope_type,
            head_dim=self.head_dim,
            min_timescale=self.rope_min_timescale,
            max_timescale=self.rope_max_timescale,
            linear_factor=self.rope_linear_scaling_factor,
            factor=self.rope_factor,
            original_length=self.original_max_position_embeddings,
            beta_fast=self.beta_fast,
            beta_slow=self.beta_slow,
            interleave=self.rope_interleave,
            truncate=self.rope_truncate,
            attention_scaling=self.rope_attention_scaling,
        )

    @property
    def query_scale(self) -> float:
        """What the forward pass multiplies queries by.

        1 where the scale is folded into the initial query kernel (llama2, mistral, gemma2), D**-0.5 where a norm on
        the queries would undo that (use_qk_norm) and in gpt3 and qwen3, which scale explicitly whatever the norm.
        """
        explicit = self.use_qk_norm or self.decoder_block in ("gpt3", "qwen3")
        return 1.0 / math.sqrt(self.head_dim) if explicit else 1.0

    @property
    def norm_offset(self) -> float:
        """What is added to a norm's scale before it multiplies: gpt3 stores scale - 1."""
        return 1.0 if self.decoder_block == "gpt3" else 0.0

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        from impl.params import declare

        return sum(math.prod(parameter.shape) for parameter in declare(self))

    def overriding(self, settings: Mapping[str, Any]) -> ModelConfig:
        """This configuration with some fields replaced; ConfigError names a field that does not exist."""
        known = {field.name for field in fields(self)}
        unknown = sorted(set(settings) - known)
        if unknown:
            raise ConfigError(
                f"{self.name}: no such field: {', '.join(unknown)}. Fields are {', '.join(sorted(known))}"
            )
        return replace(self, **settings)


def _problems(config: ModelConfig) -> list[str]:
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


def tiny(**settings: Any) -> ModelConfig:
    """A model small enough to compile in a second, no two of whose axes are alike."""
    return ModelConfig().overriding(settings)
