"""Multi-head latent attention from the formulae of arXiv 2405.04434 section 2.1, in float64 and one token at a time."""

from __future__ import annotations

import math

import numpy as np

from tests.impl.math import oracles


def sharpness(width, mscale, factor, longest, original):
    """What a dot product of `width` coordinates is multiplied by. YaRN's temperature acts on query and key alike."""
    tempered = 1.0 + 0.1 * mscale * math.log(factor) if longest > original else 1.0
    return tempered * tempered / math.sqrt(width)


def rms(vector, scale, epsilon):
    return vector / math.sqrt(float(np.mean(vector**2)) + epsilon) * scale


def turned(vector, position, radians):
    """Neighbours are read as a complex number, halves are written: yarn's interleaved pairs."""
    number = (vector[0::2] + 1j * vector[1::2]) * np.exp(1j * position * np.asarray(radians))
    return np.concatenate([number.real, number.imag])


def latent_attention(weights, x, positions, segments, config):
    """What attention adds to normed hidden states [B, T, E]; `weights` by name below the layer's attention."""
    out = np.zeros(x.shape)
    for b, head, queries, keys, values in _heads(weights, x, positions, config):
        for t, query in enumerate(queries):
            seen = [s for s in range(t + 1) if segments[b, s] == segments[b, t]]
            odds = np.exp([float(query @ keys[s]) for s in seen])
            mean = sum(odd * values[s] for odd, s in zip(odds, seen, strict=True)) / odds.sum()
            out[b, t] += mean @ weights["out/kernel"][head]
    return out


def largest_logits(weights, x, positions, segments, config):
    """The largest logit of each row and head [B, H] among those that a softmax sees, padding's own left out."""
    found = np.full((x.shape[0], config.num_query_heads), -np.inf)
    for b, head, queries, keys, _ in _heads(weights, x, positions, config):
        for t, s in np.ndindex(len(queries), len(keys)):
            if s <= t and segments[b, s] == segments[b, t] != 0:
                found[b, head] = max(found[b, head], queries[t] @ keys[s])
    return found


def _heads(weights, x, positions, config):
    """Row, head, and of each of its tokens the query (scaled), the key and the value."""
    still, wide, rank = config.qk_nope_head_dim, config.qk_rope_head_dim, config.kv_lora_rank
    epsilon = config.normalization_layer_epsilon
    radians = oracles.yarn_radians(
        wide,
        config.rope_max_timescale,
        config.rope_factor,
        config.original_max_position_embeddings,
        (config.beta_fast, config.beta_slow),
        config.rope_truncate,
    )
    sharp = sharpness(
        still + wide,
        config.mscale,
        config.rope_factor,
        config.max_position_embeddings,
        config.original_max_position_embeddings,
    )
    for b, head in np.ndindex(x.shape[0], config.num_query_heads):
        queries, keys, values = [], [], []
        for t, position in enumerate(positions[b]):
            queries.append(_query(weights, x[b, t], head, epsilon))
            queries[-1][still:] = turned(queries[-1][still:], position, radians)
            queries[-1] *= sharp
            both = x[b, t] @ weights["wkv_a/kernel"]
            latent = rms(both[:rank], weights["kv_norm/scale"], epsilon)
            own = latent @ weights["wkv_b/kernel"][:, head]
            keys.append(np.concatenate([own[:still], turned(both[rank:], position, radians)]))
            values.append(own[still:])
        yield b, head, queries, keys, values


def _query(weights, vector, head, epsilon):
    if "query/kernel" in weights:
        return vector @ weights["query/kernel"][:, head]
    latent = rms(vector @ weights["wq_a/kernel"], weights["q_norm/scale"], epsilon)
    return latent @ weights["wq_b/kernel"][:, head]
