"""The decoder blocks over one row [T, E] -> [T, E]. Every block adds attention, then an MLP or experts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from impl.config import ModelConfig
from impl.reference.plain.attention import EVERYTHING, self_attention
from impl.reference.plain.experts import mixture
from impl.reference.plain.latent import latent_attention
from impl.reference.plain.leaves import Weights, below
from impl.reference.plain.mlp import feed_forward
from impl.reference.plain.norms import layer_norm, rms_norm
from impl.reference.plain.stacks import Layer, turning

__all__ = ["GEMMA_EPSILON", "Passed", "Row", "block", "normed"]

GEMMA_EPSILON = 1e-6
"""The epsilon of the norms in gemma2's and gemma3's blocks, whatever the configuration says: MaxText's default."""


class Row(NamedTuple):
    """One row of a batch: the position and the segment of each of its T places, ints [T]."""

    positions: np.ndarray
    segments: np.ndarray


class Passed(NamedTuple):
    """x [T, E] after a block; balances: the load-balance loss of its experts, or none."""

    x: np.ndarray
    balances: tuple[float, ...] = ()


def block(config: ModelConfig, weights: Weights, x: np.ndarray, row: Row, layer: Layer) -> Passed:
    """One decoder block, `layer` of the model. `weights` are named relative to it."""
    turns = turning(config, layer)
    if config.decoder_block == "gemma2":
        x = _gemma_layer(config, turns, weights, x, row, ("_local", config.sliding_window_size))
        return Passed(_gemma_layer(config, turns, weights, x, row, ("_global", EVERYTHING)))
    if config.decoder_block == "gemma3":
        seen = config.sliding_window_size if layer.local else EVERYTHING
        return Passed(_gemma_layer(config, turns, weights, x, row, ("", seen)))
    if config.decoder_block == "olmo3":
        return Passed(_olmo3_layer(config, turns, weights, x, row, layer))
    # gpt3's MLP norms its own input, and owns that norm.
    names = (
        ("pre_self_attention_norm", "mlp/mlp_layer_norm")
        if config.decoder_block == "gpt3"
        else ("pre_self_attention_layer_norm", "post_self_attention_layer_norm")
    )
    epsilon = config.normalization_layer_epsilon
    x = x + _attended(config, turns, weights, normed(below(weights, names[0]), x, epsilon), row, layer)
    before = normed(below(weights, names[1]), x, epsilon)
    if layer.sparse:
        added, loss = mixture(config, weights, before)
        return Passed(x + added, (loss,))
    return Passed(x + np.stack([feed_forward(config, below(weights, "mlp"), vector) for vector in before]))


def _attended(
    config: ModelConfig, turns: ModelConfig, weights: Weights, x: np.ndarray, row: Row, layer: Layer
) -> np.ndarray:
    if config.attention_type == "mla":
        return latent_attention(config, turns, below(weights, "self_attention"), x, *row)
    name = "GptOssAttention" if config.decoder_block == "gpt_oss" else "self_attention"
    seen = config.sliding_window_size if layer.local else EVERYTHING
    return self_attention(turns, below(weights, name), x, *row, seen)


def _olmo3_layer(
    config: ModelConfig, turns: ModelConfig, weights: Weights, x: np.ndarray, row: Row, layer: Layer
) -> np.ndarray:
    """Attention and MLP read the stream as it is; what they add to it is normed. Source: arXiv 2501.00656."""
    epsilon = config.normalization_layer_epsilon
    seen = config.sliding_window_size if layer.local else EVERYTHING
    added = self_attention(turns, below(weights, "attention"), x, *row, seen)
    x = x + normed(below(weights, "post_self_attention_layer_norm"), added, epsilon)
    added = np.stack([feed_forward(config, below(weights, "mlp"), vector) for vector in x])
    return x + normed(below(weights, "post_mlp_layer_norm"), added, epsilon)


def _gemma_layer(
    config: ModelConfig, turns: ModelConfig, weights: Weights, x: np.ndarray, row: Row, part: tuple[str, int]
) -> np.ndarray:
    """One layer of gemma3, or a half of gemma2's block. Either may norm what it adds, too.

    part: what the names of its weights end in, and its window.
    """
    end, window = part

    def norm(name: str, values: np.ndarray) -> np.ndarray:
        return normed(below(weights, f"{name}{end}"), values, GEMMA_EPSILON)

    before = norm("pre_self_attention_norm", x)
    added = self_attention(turns, below(weights, f"self_attention{end}"), before, *row, window)
    x = x + (norm("post_self_attention_norm", added) if config.use_post_attn_norm else added)
    mlp = below(weights, f"mlp{end}")
    added = np.stack([feed_forward(config, mlp, vector) for vector in norm("pre_ffw_norm", x)])
    return x + (norm("post_ffw_norm", added) if config.use_post_ffw_norm else added)


def normed(weights: Weights, x: np.ndarray, epsilon: float) -> np.ndarray:
    """Each position of [T, E] through a norm: gpt3's, which alone has a bias, or the root mean square."""
    if "bias" in weights:
        return np.stack([layer_norm(vector, weights["scale"], weights["bias"], epsilon) for vector in x])
    return np.stack([rms_norm(vector, weights["scale"], epsilon) for vector in x])
