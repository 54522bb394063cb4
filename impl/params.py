"""Every parameter declared once, in forward order: neutral name, shape, logical axes, kind; and how weights are drawn.

Neutral names never mention stacking: layer i of any layout is "decoder/layers/i/...", as `impl.stacks` counts them.
Logical axes are MaxText's.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import ml_dtypes  # noqa: F401  (registers bfloat16 with NumPy)
import numpy as np

from impl.config import ModelConfig
from impl.experts import MIXTURES, ROUTED, SHARED, attention_name, feed_forward_name, has_experts
from impl.prediction import BLOCK, layer_name, part_name
from impl.stacks import places, predictors

__all__ = ["Parameter", "declare", "draw", "input_projections", "layer_parameters"]


Axes = tuple[str | None, ...]
"""Logical names of a leaf's axes."""


@dataclass(frozen=True)
class Parameter:
    """name: neutral. shape, axes: of one layer's leaf, unstacked. kind: what it is, which decides how it is drawn."""

    name: str
    shape: tuple[int, ...]
    axes: Axes
    kind: str = "kernel"
    fan_in: int = 0


def declare(config: ModelConfig) -> tuple[Parameter, ...]:
    """All parameters of the model in forward order."""
    v, e = config.vocab_size, config.emb_dim
    rows = [Parameter("token_embedder/embedding", (v, e), ("vocab", "embed_vocab"), "embedding")]
    if config.trainable_position_size:
        shape = (config.trainable_position_size, e)
        rows.append(Parameter("decoder/position_embedder/embedding", shape, ("vocab", "embed_vocab"), "embedding"))
    for place in places(config):
        rows += [replace(row, name=f"{place.name}/{row.name}") for row in layer_parameters(config, place.kind)]
    rows += _norm("decoder/decoder_norm", config)
    if not config.logits_via_embedding:
        rows.append(Parameter("decoder/logits_dense/kernel", (e, v), ("embed_vocab", "vocab"), "kernel", e))
    for place in predictors(config):
        rows += _joining(config, place.layer)
        rows += [replace(row, name=f"{place.name}/{row.name}") for row in layer_parameters(config, place.kind)]
    return tuple(rows)


def _joining(config: ModelConfig, k: int) -> Iterator[Parameter]:
    """What a layer that predicts further has before its block: norms of what it joins, and the projection of both."""
    above, e = f"{BLOCK}/{layer_name(k)}", config.emb_dim
    for part in ("embedding_norm", "hidden_state_norm"):
        yield from _norm(f"{above}/{part_name(k, part)}", config)
    yield from _dense(f"{above}/{part_name(k, 'projection')}", (2 * e, e), ("embed", None), 1, False)


def layer_parameters(config: ModelConfig, kind: str = "global") -> tuple[Parameter, ...]:
    """Parameters of one decoder block, a layer of that kind, named relative to it, in forward order."""
    if config.decoder_block == "gemma2":
        return tuple(row for part in ("local", "global") for row in _gemma_layer(config, f"_{part}"))
    if config.decoder_block == "gemma3":
        return tuple(_gemma_layer(config, ""))
    if config.decoder_block == "olmo3":
        return (
            *_attention("attention", config),
            *_norm("post_self_attention_layer_norm", config),
            *_mlp("mlp", config),
            *_norm("post_mlp_layer_norm", config),
        )
    if config.decoder_block in MIXTURES:
        return tuple(_mixture_layer(config, kind))
    if config.decoder_block == "gpt3":
        return (
            *_norm("pre_self_attention_norm", config),
            *_attention("self_attention", config),
            *_norm("mlp/mlp_layer_norm", config),
            *_mlp("mlp", config),
        )
    return (
        *_norm("pre_self_attention_layer_norm", config),
        *_attention("self_attention", config),
        *_norm("post_self_attention_layer_norm", config),
        *_mlp("mlp", config),
    )


def _gemma_layer(config: ModelConfig, part: str) -> Iterator[Parameter]:
    yield from _norm(f"pre_self_attention_norm{part}", config)
    yield from _attention(f"self_attention{part}", config)
    if config.use_post_attn_norm:
        yield from _norm(f"post_self_attention_norm{part}", config)
    yield from _norm(f"pre_ffw_norm{part}", config)
    yield from _mlp(f"mlp{part}", config)
    if config.use_post_ffw_norm:
        yield from _norm(f"post_ffw_norm{part}", config)


def _mixture_layer(config: ModelConfig, kind: str) -> Iterator[Parameter]:
    name = feed_forward_name(config, kind)
    yield from _norm("pre_self_attention_layer_norm", config)
    attention = _latent_attention if config.attention_type == "mla" else _attention
    yield from attention(attention_name(config), config)
    yield from _norm("post_self_attention_layer_norm", config)
    if not has_experts(config, kind):
        yield from _mlp(name, config)
    elif config.decoder_block == "deepseek":
        yield from _experts(f"{name}/{ROUTED}", config)
        if config.shared_experts:
            yield from _mlp(f"{name}/{SHARED}", replace(config, mlp_dim=config.shared_experts * config.moe_mlp_dim))
    else:
        yield from _experts(name, config)


def _experts(name: str, config: ModelConfig) -> Iterator[Parameter]:
    e, n, m = config.emb_dim, config.num_experts, config.moe_mlp_dim
    embed = "embed_moe" if config.decoder_block == "deepseek" else "embed"
    yield Parameter(f"{name}/gate/kernel", (e, n), (embed, None), "kernel", e)
    if config.routed_bias:
        yield Parameter(f"{name}/gate/bias", (n,), (None,), "bias")
    for part in input_projections(config):
        yield Parameter(f"{name}/{part}", (n, e, m), ("exp", "embed_moe", "mlp_moe"), "kernel", e)
    yield Parameter(f"{name}/wo", (n, m, e), ("exp", "mlp_moe", "embed_moe"), "kernel", m)
    if config.mlp_bias:
        for part in input_projections(config):
            yield Parameter(f"{name}/{part}_bias", (n, m), ("exp", "activation_mlp"), "bias")
        yield Parameter(f"{name}/wo_bias", (n, e), ("exp", "activation_embed"), "bias")
    if config.per_expert_scale:
        yield Parameter(f"{name}/per_expert_scale", (n,), ("exp",), "scale")


def _norm(name: str, config: ModelConfig) -> list[Parameter]:
    rows = [Parameter(f"{name}/scale", (config.emb_dim,), ("norm",), "scale")]
    if config.decoder_block == "gpt3":
        rows.append(Parameter(f"{name}/bias", (config.emb_dim,), ("norm",), "bias"))
    return rows


def _dense(name: str, shape: tuple[int, ...], axes: Axes, inputs: int, bias: bool) -> list[Parameter]:
    rows = [Parameter(f"{name}/kernel", shape, axes, "kernel", math.prod(shape[:inputs]))]
    if bias:
        rows.append(Parameter(f"{name}/bias", shape[inputs:], axes[inputs:], "bias"))
    return rows


def _attention(name: str, config: ModelConfig) -> Iterator[Parameter]:
    e, h, k, d = config.emb_dim, config.num_query_heads, config.num_kv_heads, config.head_dim
    bias = config.attention_bias or config.decoder_block == "gpt3"
    if config.fused_qkv and config.decoder_block == "gpt3":
        yield from _dense(f"{name}/qkv_proj", (e, 3, h, d), ("embed", "qkv", "heads", "kv"), 1, bias)
    elif config.fused_qkv:
        yield from _dense(f"{name}/qkv_proj", (e, h + 2 * k, d), ("embed", "heads", "kv"), 1, bias)
    elif config.decoder_block == "gpt3":
        for part in ("query", "key", "value"):
            yield from _dense(f"{name}/{part}", (e, h, d), ("embed", "heads", "kv"), 1, bias)
    else:
        yield from _dense(f"{name}/query", (e, h, d), ("embed", "q_heads", "kv"), 1, bias)
        for part in ("key", "value"):
            yield from _dense(f"{name}/{part}", (e, k, d), ("embed", "kv_heads", "kv_head_dim"), 1, bias)
    if config.use_qk_norm:
        together = config.decoder_block == "olmo3"
        yield Parameter(f"{name}/query_norm/scale", (h * d if together else d,), ("norm",), "scale")
        yield Parameter(f"{name}/key_norm/scale", (k * d if together else d,), ("norm",), "scale")
    if config.attention_sink:
        yield Parameter(f"{name}/sinks", (h,), (None,), "bias")
    yield from _dense(f"{name}/out", (h, d, e), ("heads", "kv", "embed"), 2, bias)


def _latent_attention(name: str, config: ModelConfig) -> Iterator[Parameter]:
    e, h, q, c = config.emb_dim, config.num_query_heads, config.q_lora_rank, config.kv_lora_rank
    still, turning, size = config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim
    if q:
        yield from _dense(f"{name}/wq_a", (e, q), ("embed", "q_lora_up_proj"), 1, False)
        yield Parameter(f"{name}/q_norm/scale", (q,), ("norm",), "scale")
        yield from _dense(f"{name}/wq_b", (q, h, still + turning), ("q_lora", "q_heads", "kv"), 1, False)
    else:
        yield from _dense(f"{name}/query", (e, h, still + turning), ("embed", "q_heads", "kv"), 1, False)
    yield from _dense(f"{name}/wkv_a", (e, c + turning), ("embed", "kv_lora_up_proj"), 1, False)
    yield Parameter(f"{name}/kv_norm/scale", (c,), ("norm",), "scale")
    yield from _dense(f"{name}/wkv_b", (c, h, still + size), ("kv_lora", "kv_heads", "kv_head_dim"), 1, False)
    yield from _dense(f"{name}/out", (h, size, e), ("heads", "kv", "embed"), 2, False)


def _mlp(name: str, config: ModelConfig) -> Iterator[Parameter]:
    e, f = config.emb_dim, config.mlp_dim
    bias = config.mlp_bias or config.decoder_block == "gpt3"
    for part in input_projections(config):
        yield from _dense(f"{name}/{part}", (e, f), ("embed", "mlp"), 1, bias)
    yield from _dense(f"{name}/wo", (f, e), ("mlp", "embed"), 1, bias)


def input_projections(config: ModelConfig) -> tuple[str, ...]:
    """Names of an MLP's input projections: "wi" for one activation, else "wi_0", "wi_1"..."""
    count = len(config.mlp_activations)
    return ("wi",) if count == 1 else tuple(f"wi_{index}" for index in range(count))


def draw(config: ModelConfig, seed: int) -> dict[str, np.ndarray]:
    """Generic weights by neutral name, in weight_dtype: never zeros, ones or anything that hides a mistake.

    One generator per name, so that adding a parameter moves no other.
    """
    return {row.name: _draw(row, config, seed) for row in declare(config)}


def _draw(row: Parameter, config: ModelConfig, seed: int) -> np.ndarray:
    digest = hashlib.sha256(row.name.encode()).digest()
    random = np.random.default_rng([seed, *np.frombuffer(digest[:16], np.uint32).tolist()])
    noise = random.standard_normal(row.shape, dtype=np.float32)
    if row.kind == "scale":
        value = (1.0 - config.norm_offset) + 0.1 * noise
    elif row.kind == "bias":
        value = 0.1 * noise
    elif row.kind == "embedding":
        value = 0.5 * noise
    else:
        value = noise / np.float32(math.sqrt(row.fan_in))
    return value.astype(np.dtype(config.weight_dtype))
