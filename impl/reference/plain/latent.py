"""Self-attention whose keys and values are made of one short vector a position. Source: arXiv 2405.04434, section 2.1.

Letters as in `impl.math.mla`: of a head, Dn coordinates that do not turn and Dr that do, Dv of a value; C the vector's.
"""

from __future__ import annotations

import math

import numpy as np

from impl.config import ModelConfig
from impl.reference.plain.attention import EVERYTHING, capped, visible
from impl.reference.plain.leaves import Weights
from impl.reference.plain.norms import rms_norm
from impl.reference.plain.rotary import turned

__all__ = ["latent_attention", "sharpness"]


def latent_attention(
    config: ModelConfig,
    turns: ModelConfig,
    weights: Weights,
    x: np.ndarray,
    positions: np.ndarray,
    segments: np.ndarray,
) -> np.ndarray:
    """Normed hidden states [T, E] of one row -> what attention adds to them [T, E].

    `weights` are named relative to the layer's attention. turns: the configuration by which the Dr coordinates turn.
    """
    still, size, places = config.qk_nope_head_dim, config.kv_lora_rank, range(len(x))
    latents, shared = [], []
    for t in places:
        both = x[t] @ weights["wkv_a/kernel"]
        latents.append(rms_norm(both[:size], weights["kv_norm/scale"], config.normalization_layer_epsilon))
        shared.append(turned(both[size:], positions[t], turns))
    result = np.zeros_like(x)
    for head in range(config.num_query_heads):
        made = [latent @ weights["wkv_b/kernel"][:, head] for latent in latents]
        for t in places:
            query = _query(config, weights, x[t], head)
            turning = turned(query[still:], positions[t], turns)
            scores = {
                s: capped(
                    sharpness(config) * float(query[:still] @ made[s][:still] + turning @ shared[s]),
                    config.attn_logits_soft_cap,
                )
                for s in visible(segments, t, EVERYTHING)
            }
            odds = {s: math.exp(score - max(scores.values())) for s, score in scores.items()}
            mean = sum(share * made[s][still:] for s, share in odds.items()) / sum(odds.values())
            result[t] += mean @ weights["out/kernel"][head]
    return result


def _query(config: ModelConfig, weights: Weights, x: np.ndarray, head: int) -> np.ndarray:
    """One head's query [Dn+Dr] of one position, through a short vector of its own where the model has one."""
    if not config.q_lora_rank:
        return x @ weights["query/kernel"][:, head]
    short = rms_norm(x @ weights["wq_a/kernel"], weights["q_norm/scale"], config.normalization_layer_epsilon)
    return short @ weights["wq_b/kernel"][:, head]


def sharpness(config: ModelConfig) -> float:
    """What a score is multiplied by: (Dn+Dr)**-0.5, and (0.1 mscale ln s + 1)**2 in a model stretched s times."""
    plain = (config.qk_nope_head_dim + config.qk_rope_head_dim) ** -0.5
    if config.max_position_embeddings <= config.original_max_position_embeddings:
        return plain
    return plain * (0.1 * config.mscale * math.log(config.rope_factor) + 1.0) ** 2
