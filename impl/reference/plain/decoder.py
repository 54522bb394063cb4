"""From tokens to logits, one row at a time: embedding, blocks, final norm, head."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from impl.config import ModelConfig
from impl.reference.plain.attention import capped
from impl.reference.plain.blocks import Row, block, normed
from impl.reference.plain.further import ahead, joined
from impl.reference.plain.leaves import PlainError, Weights, below, exact
from impl.reference.plain.stacks import layers

__all__ = ["Forward", "embedded", "forward", "head", "logits"]


class Forward(NamedTuple):
    """logits [B, T, V]; balance: the mean load-balance loss of all rows and layers with experts, 0 without any.

    further [B, n, T, V]: logits of the n layers that predict further.
    """

    logits: np.ndarray
    balance: float
    further: np.ndarray


def logits(
    config: ModelConfig,
    weights: Mapping[str, np.ndarray],
    tokens: np.ndarray,
    positions: np.ndarray,
    segment_ids: np.ndarray,
) -> np.ndarray:
    """Logits float64 [B, T, V] of tokens, positions and segment ids [B, T], all positions alike, padding too.

    `weights` by neutral name, unstacked, of any float dtype. Positions are ints; where they are rotated any number will
    do. Raises PlainError for weights of another model, for fields of unequal shapes, and for what is in no table.
    """
    return forward(config, weights, tokens, positions, segment_ids).logits


def forward(
    config: ModelConfig,
    weights: Mapping[str, np.ndarray],
    tokens: np.ndarray,
    positions: np.ndarray,
    segment_ids: np.ndarray,
) -> Forward:
    """What a forward pass gives beside `logits`, whose arguments and errors it has."""
    leaves = exact(config, weights)
    fields = {"tokens": tokens, "positions": positions, "segment_ids": segment_ids}
    _check(config, {name: np.asarray(field) for name, field in fields.items()})
    rows, guesses, balances = [], list[list[list[np.ndarray]]](), list[float]()
    for row_tokens, *row in zip(tokens, positions, segment_ids, strict=True):
        place = Row(*row)
        x = embedded(config, leaves, row_tokens, place.positions)
        for layer in layers(config):
            x, told = block(config, below(leaves, f"decoder/{layer.name}"), x, place, layer)
            balances += told
        rows.append(_scored(config, leaves, x))
        guesses.append([])
        for k in range(1, config.mtp_num_layers + 1):
            moved = [ahead(values, place.segments, k) for values in (row_tokens, place.positions)]
            x, told = joined(config, leaves, k, x, embedded(config, leaves, *moved), place)
            balances += told
            guesses[-1].append(_scored(config, leaves, x))
    return Forward(np.array(rows), sum(balances) / len(balances) if balances else 0.0, np.array(guesses))


def _scored(config: ModelConfig, leaves: Weights, x: np.ndarray) -> list[np.ndarray]:
    """A stream [T, E] through the final norm and the head: logits [V] of each place."""
    last = normed(below(leaves, "decoder/decoder_norm"), x, config.normalization_layer_epsilon)
    return [head(config, leaves, vector) for vector in last]


def _check(config: ModelConfig, fields: Mapping[str, np.ndarray]) -> None:
    """NumPy would read a negative index from the end and stop at the shorter of two rows."""
    shapes = {name: field.shape for name, field in fields.items()}
    if len(set(shapes.values())) > 1 or len(shapes["tokens"]) != 2:
        raise PlainError(f"shapes are {shapes}: all must be one and the same [rows, length]")
    limits = {"tokens": ("vocab_size", config.vocab_size)}
    if config.trainable_position_size:
        limits["positions"] = ("trainable_position_size", config.trainable_position_size)
    for name, (field, limit) in limits.items():
        if fields[name].min() < 0 or fields[name].max() >= limit:
            found = f"from {fields[name].min()} to {fields[name].max()}"
            raise PlainError(f"{name} range {found}: they must lie in [0, {field}={limit})")


def embedded(config: ModelConfig, weights: Weights, tokens: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Tokens and positions [T] of one row -> [T, E]: the token's row of its table, plus the position's where learned.

    Nothing is scaled: gemma2's sqrt(E) is part of the table that MaxText stores, and the head divides by it again.
    """
    x = np.stack([weights["token_embedder/embedding"][token] for token in tokens])
    if config.trainable_position_size:
        x = x + np.stack([weights["decoder/position_embedder/embedding"][position] for position in positions])
    return x


def head(config: ModelConfig, weights: Weights, hidden: np.ndarray) -> np.ndarray:
    """The last hidden state [E] of one position -> logits [V].

    A tied head takes the dot product with every row of the embedding, rounded to bfloat16 first if round_tied_table,
    and divides by sqrt(E) if normalize_embedding_logits. The final soft cap comes last, on either head.
    """
    if config.logits_via_embedding:
        table = weights["token_embedder/embedding"]
        if config.round_tied_table:
            table = table.astype(np.float32).astype(np.dtype("bfloat16")).astype(np.float64)
        scores = np.array([float(hidden @ entry) for entry in table])
        if config.normalize_embedding_logits:
            scores = scores / math.sqrt(config.emb_dim)
    else:
        scores = hidden @ weights["decoder/logits_dense/kernel"]
    return np.array([capped(float(score), config.final_logits_soft_cap) for score in scores])
