"""The one description of a model: frozen, validated once, the same for every side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from impl.latent import Latent
from impl.later import later
from impl.math.mla import magnitude, softmax_scale
from impl.math.rope import Frequencies
from impl.mixture import Mixture
from impl.prediction import Prediction
from impl.validation import BLOCKS, problems

__all__ = ["BLOCKS", "ConfigError", "ModelConfig", "Rope", "tiny"]

Rope = Literal["default", "llama3.1", "yarn"]


class ConfigError(ValueError):
    """A configuration that makes no sense. The message names the fields, their values and the cure."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Mixture, Latent, Prediction):
    """Everything that shapes the model. Letters as in `impl.math`: V, E, H, K, D, F; L decoder layers.

    num_decoder_layers counts blocks: a gemma2 block holds a local and a global sublayer (MaxText's counting).
    dtype is the dtype of computation, weight_dtype the dtype of parameters. param_scan_axis is where a scanned stack
    puts its L. round_tied_table rounds the embedding table to bfloat16 before a tied head multiplies by it, as MaxText
    does. zero_centred_norm: norms store how far their scale is from 1, as qwen3-next's do. quantization: "" or a
    flavour of `impl.quantization`, whose scales follow the last amax_history_length steps.
    The three flags choose the side in `impl.sides` and nowhere else; the model never reads them.
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
    zero_centred_norm: bool = later(False)
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
    quantization: str = later("")
    amax_history_length: int = later(1024)
    scan_layers: bool = False
    param_scan_axis: int = 1
    remat_policy: str = "none"
    parameter_memory_host_offload: bool = later(False)
    max_target_length: int = 24
    max_prefill_predict_length: int = 8
    pure_nnx: bool = True
    enable_nnx: bool = True
    pure_nnx_decoder: bool = True

    def __post_init__(self) -> None:
        for problem in problems(self):
            raise ConfigError(f"{self.name}: {problem}")

    @property
    def rope(self) -> Frequencies:
        """The rotary frequencies of layers that attend to everything."""
        return self.rope_of("global")

    def rope_of(self, kind: str) -> Frequencies:
        """The rotary frequencies of layers of that kind, as in `impl.stacks`.

        A local layer may turn by a base of its own; gemma3's and olmo3's local layers are not stretched either,
        unless stretched_local says so.
        """
        local = kind == "local"
        stretched = not (local and self.decoder_block in ("gemma3", "olmo3")) or self.stretched_local
        yarn = self.rope_type == "yarn"
        latent = self.attention_type == "mla"
        return Frequencies(
            kind="default" if yarn and not stretched else self.rope_type,
            head_dim=self.qk_rope_head_dim if latent else self.head_dim,
            min_timescale=self.rope_min_timescale,
            max_timescale=(local and self.local_rope_max_timescale) or self.rope_max_timescale,
            linear_factor=self.rope_linear_scaling_factor if stretched else 1.0,
            factor=self.rope_factor,
            original_length=self.original_max_position_embeddings,
            beta_fast=self.beta_fast,
            beta_slow=self.beta_slow,
            interleave=self.rope_interleave,
            truncate=self.rope_truncate,
            attention_scaling=self.rope_attention_scaling,
        )

    def window(self, kind: str) -> int:
        """How far back layers of that kind see, as in `impl.math.masks`."""
        return self.sliding_window_size if kind == "local" else -1

    @property
    def query_scale(self) -> float:
        """What the forward pass multiplies queries by.

        1 where the scale is folded into the initial query kernel (llama2, mistral, gemma2), D**-0.5 where a norm on
        the queries would undo that (use_qk_norm) and in gemma3, gpt3, gpt_oss, olmo3 and qwen3, which always scale;
        latent attention does too, by more where the model was stretched.
        """
        if self.attention_type == "mla":
            longest, original = self.max_position_embeddings, self.original_max_position_embeddings
            stretch = magnitude(self.mscale, self.rope_factor, longest, original)
            return softmax_scale(self.qk_nope_head_dim + self.qk_rope_head_dim, stretch)
        explicit = self.use_qk_norm or self.decoder_block in ("gemma3", "gpt3", "gpt_oss", "olmo3", "qwen3")
        return 1.0 / math.sqrt(self.head_dim) if explicit else 1.0

    @property
    def norm_offset(self) -> float:
        """What is added to a norm's scale before it multiplies: gpt3 and zero_centred_norm store scale - 1."""
        return 1.0 if self.decoder_block == "gpt3" or self.zero_centred_norm else 0.0

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


def tiny(**settings: Any) -> ModelConfig:
    """A model small enough to compile in a second, no two of whose axes are alike."""
    return ModelConfig().overriding(settings)
