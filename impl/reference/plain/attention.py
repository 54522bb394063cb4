"""Self-attention over one row: projections, norms, positions, who sees whom, and the mean of what is seen."""

from __future__ import annotations

import math

import numpy as np

from impl.config import ModelConfig
from impl.reference.plain.leaves import Weights
from impl.reference.plain.norms import rms_norm
from impl.reference.plain.rotary import turned

__all__ = ["EVERYTHING", "capped", "key_head", "mixed", "project", "query_factor", "self_attention", "visible"]

EVERYTHING = -1
"""The window of a layer that sees everything before it."""

Heads = list[list[np.ndarray]]
"""[T][heads] vectors of D coordinates."""


def self_attention(
    config: ModelConfig, weights: Weights, x: np.ndarray, positions: np.ndarray, segments: np.ndarray, window: int
) -> np.ndarray:
    """Normed hidden states [T, E] of one row -> what attention adds to them [T, E].

    `weights` are named relative to the layer's attention. config: the model's, with the frequencies of the layer.
    `window` as in `visible`.
    """
    queries, keys, values = project(config, weights, x)
    for t, position in enumerate(positions):
        queries[t] = _placed(config, weights.get("query_norm/scale"), queries[t], position)
        keys[t] = _placed(config, weights.get("key_norm/scale"), keys[t], position)
    bias, sinks = weights.get("out/bias", 0.0), weights.get("sinks", np.full(config.num_query_heads, -math.inf))
    result = np.empty_like(x)
    for t in range(len(x)):
        seen = visible(segments, t, window)
        result[t] = bias
        for head, query in enumerate(queries[t]):
            shared = key_head(config, head)
            theirs = [row[shared] for row in keys], [row[shared] for row in values]
            mean = mixed(config, query, *theirs, float(sinks[head]), seen)
            result[t] += mean @ weights["out/kernel"][head]
    return result


def project(config: ModelConfig, weights: Weights, x: np.ndarray) -> tuple[Heads, Heads, Heads]:
    """Queries [T][H], keys [T][K] and values [T][K] of [T, E].

    A fused projection holds the heads of queries, keys and values one after the other; gpt3's holds three blocks of H.
    """
    if not config.fused_qkv:
        query, key, value = (_heads(weights, name, x) for name in ("query", "key", "value"))
        return query, key, value
    kernel, bias = weights["qkv_proj/kernel"], weights.get("qkv_proj/bias")
    if config.decoder_block == "gpt3":
        parts = [kernel[:, part] for part in range(3)]
        biases = [None if bias is None else bias[part] for part in range(3)]
    else:
        h, k = config.num_query_heads, config.num_kv_heads
        ranges = [range(h), range(h, h + k), range(h + k, h + 2 * k)]
        parts = [np.stack([kernel[:, head] for head in heads], axis=1) for heads in ranges]
        biases = [None if bias is None else np.stack([bias[head] for head in heads]) for heads in ranges]
    query, key, value = (_by_head(x, part, its) for part, its in zip(parts, biases, strict=True))
    return query, key, value


def _heads(weights: Weights, name: str, x: np.ndarray) -> Heads:
    return _by_head(x, weights[f"{name}/kernel"], weights.get(f"{name}/bias"))


def _by_head(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray | None) -> Heads:
    """x [T, E] through a kernel [E, heads, D] and a bias [heads, D] or none."""
    return [
        [vector @ kernel[:, head] + (0.0 if bias is None else bias[head]) for head in range(kernel.shape[1])]
        for vector in x
    ]


def _placed(
    config: ModelConfig, scale: np.ndarray | None, heads: list[np.ndarray], position: float
) -> list[np.ndarray]:
    """Queries or keys of one place, normed where there is a scale, turned to it unless positions are learned.

    olmo3 norms all heads of a place as one vector; the others norm each head by itself.
    """
    if scale is not None:
        own = [np.concatenate(heads)] if config.decoder_block == "olmo3" else heads
        own = [rms_norm(vector, scale, config.normalization_layer_epsilon) for vector in own]
        heads = np.split(own[0], len(heads)) if config.decoder_block == "olmo3" else own
    return heads if config.trainable_position_size else [turned(head, position, config) for head in heads]


def visible(segments: np.ndarray, query: int, window: int) -> list[int]:
    """The places in a row that the query at one place sees: not ahead of it, in its segment, in the window.

    The window counts places, the query's own included; EVERYTHING sets none. Padding is the segment 0 like any other.
    """
    return [
        key
        for key in range(query + 1)
        if segments[key] == segments[query] and (window == EVERYTHING or query - key < window)
    ]


def key_head(config: ModelConfig, head: int) -> int:
    """The key head that a query head reads: consecutive H/K query heads share one."""
    return head // (config.num_query_heads // config.num_kv_heads)


def mixed(
    config: ModelConfig,
    query: np.ndarray,
    keys: list[np.ndarray],
    values: list[np.ndarray],
    sink: float,
    seen: list[int],
) -> np.ndarray:
    """The mean [D] of the values seen, weighted by exp(score); of all values alike where nothing is seen.

    sink: the score of a value that is 0 and that every query sees; minus infinity for none. Source: arXiv 2508.10925.
    """
    if not seen and sink == -math.inf:
        return sum(values, np.zeros_like(query)) / len(values)
    scores = [capped(query_factor(config) * float(query @ keys[key]), config.attn_logits_soft_cap) for key in seen]
    highest = max([sink, *scores])
    odds = [math.exp(score - highest) for score in scores]
    total = np.zeros_like(query)
    for key, share in zip(seen, odds, strict=True):
        total += share * values[key]
    return total / (sum(odds) + math.exp(sink - highest))


def query_factor(config: ModelConfig) -> float:
    """D**-0.5 where the forward pass scales: gemma3, gpt3, gpt_oss, olmo3, qwen3, and wherever queries are normed.

    Elsewhere the factor is part of the query kernel, as MaxText initialises and converts it.
    """
    if config.decoder_block in ("gemma3", "gpt3", "gpt_oss", "olmo3", "qwen3") or config.use_qk_norm:
        return config.head_dim**-0.5
    return 1.0


def capped(value: float, cap: float) -> float:
    """cap tanh(value / cap); the value itself for a cap of 0. Source: arXiv 2408.00118, section 2."""
    return cap * math.tanh(value / cap) if cap else value
