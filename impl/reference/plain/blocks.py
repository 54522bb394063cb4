"""The decoder blocks over one row [T, E] -> [T, E]. Every block adds attention, then an MLP, to what comes in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from impl.config import ModelConfig
from impl.reference.plain.attention import EVERYTHING, self_attention
from impl.reference.plain.leaves import Weights, below
from impl.reference.plain.mlp import feed_forward
from impl.reference.plain.norms import layer_norm, rms_norm

__all__ = ["GEMMA_EPSILON", "Row", "block", "normed"]

GEMMA_EPSILON = 1e-6
"""The epsilon of the norms in gemma2's blocks, whatever the configuration says: MaxText leaves them at its default."""


class Row(NamedTuple):
    """One row of a batch: the position and the segment of each of its T places, ints [T]."""

    positions: np.ndarray
    segments: np.ndarray


def block(config: ModelConfig, weights: Weights, x: np.ndarray, row: Row) -> np.ndarray:
    """One decoder block. `weights` are named relative to it."""
    if config.decoder_block == "gemma2":
        x = _gemma2_sublayer(config, weights, x, row, "local")
        return _gemma2_sublayer(config, weights, x, row, "global")
    # gpt3's MLP norms its own input, and owns that norm.
    names = (
        ("pre_self_attention_norm", "mlp/mlp_layer_norm")
        if config.decoder_block == "gpt3"
        else ("pre_self_attention_layer_norm", "post_self_attention_layer_norm")
    )
    epsilon = config.normalization_layer_epsilon
    before = normed(below(weights, names[0]), x, epsilon)
    x = x + self_attention(config, below(weights, "self_attention"), before, *row, EVERYTHING)
    before = normed(below(weights, names[1]), x, epsilon)
    return x + np.stack([feed_forward(config, below(weights, "mlp"), vector) for vector in before])


def _gemma2_sublayer(config: ModelConfig, weights: Weights, x: np.ndarray, row: Row, part: str) -> np.ndarray:
    """The local sublayer sees a window, the global one everything. Either may norm what it adds, too."""
    window = config.sliding_window_size if part == "local" else EVERYTHING

    def norm(name: str, values: np.ndarray) -> np.ndarray:
        return normed(below(weights, f"{name}_{part}"), values, GEMMA_EPSILON)

    before = norm("pre_self_attention_norm", x)
    added = self_attention(config, below(weights, f"self_attention_{part}"), before, *row, window)
    x = x + (norm("post_self_attention_norm", added) if config.use_post_attn_norm else added)
    mlp = below(weights, f"mlp_{part}")
    added = np.stack([feed_forward(config, mlp, vector) for vector in norm("pre_ffw_norm", x)])
    return x + (norm("post_ffw_norm", added) if config.use_post_ffw_norm else added)


def normed(weights: Weights, x: np.ndarray, epsilon: float) -> np.ndarray:
    """Each position of [T, E] through a norm: gpt3's, which alone has a bias, or the root mean square."""
    if "bias" in weights:
        return np.stack([layer_norm(vector, weights["scale"], weights["bias"], epsilon) for vector in x])
    return np.stack([rms_norm(vector, weights["scale"], epsilon) for vector in x])
