"""What is asked of an engine, checked before anything is compiled: JAX would clamp or drop what is out of range."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from impl.config import ModelConfig

__all__ = ["check_servable", "count", "prompt", "several", "slot"]


def check_servable(config: ModelConfig) -> None:
    """Raises ValueError for a model that a cache cannot serve, or whose products are quantised for training.

    A window of 0 leaves a query nothing to attend to, and attention is then uniform over every key, padding and
    generated rows included: what a slot says would depend on the size of its cache.
    """
    if config.quantization:
        raise ValueError(
            f"{config.name}: quantization={config.quantization!r} is for training, and its statistics are no weights: "
            "serve the trained weights with quantization=''"
        )
    if config.decoder_block == "gemma2" and config.sliding_window_size == 0:
        raise ValueError(
            f"{config.name}: sliding_window_size=0 makes local attention uniform over the whole cache, padding "
            "included: such a model cannot be served; give it a window of at least 1"
        )


def count(slots: int) -> int:
    """The number of slots. Raises ValueError below 1."""
    number = operator.index(slots)
    if number < 1:
        raise ValueError(f"slots={number}: an engine needs at least 1 slot")
    return number


def prompt(tokens: Any, true_length: int, config: ModelConfig) -> tuple[np.ndarray, int]:
    """Tokens int32 [1, P'] and the true length. Accepts [P'] and [1, P'].

    Raises ValueError for another shape, no integers, a prompt too long, a true length outside 1..P', or tokens outside
    the vocabulary. Padding must hold tokens of the vocabulary too: an embedding looks NaN up for others, and a weight
    of 0 times NaN is NaN.
    """
    row = np.asarray(tokens)
    row = row[None] if row.ndim == 1 else row
    if row.ndim != 2 or row.shape[0] != 1 or not row.size:
        raise ValueError(f"a prompt of shape {np.shape(tokens)}: give one row of tokens, [P] or [1, P], P at least 1")
    if row.dtype.kind not in "iu":
        raise ValueError(f"a prompt of dtype {row.dtype}: tokens are integers")
    longest, length = config.max_prefill_predict_length, operator.index(true_length)
    if row.shape[1] > longest:
        raise ValueError(f"prompt of {row.shape[1]} tokens does not fit max_prefill_predict_length={longest}: raise it")
    if not 1 <= length <= row.shape[1]:
        raise ValueError(f"true_length={length} must lie between 1 and the padded length {row.shape[1]}")
    low, high = int(row.min()), int(row.max())
    if low < 0 or high >= config.vocab_size:
        raise ValueError(
            f"tokens run from {low} to {high}, padding included; the vocabulary has {config.vocab_size}: "
            "stay within 0 and its size less 1"
        )
    return row.astype(np.int32), length


def slot(index: int, slots: int) -> int:
    """Raises ValueError for a slot that is not there: negative ones do not count from the end."""
    number = operator.index(index)
    if not 0 <= number < slots:
        raise ValueError(f"slot {number} does not exist: there are {slots} slots, 0 to {slots - 1}")
    return number


def several(indices: Sequence[int], slots: int) -> tuple[int, ...]:
    """Slots to fill alike. Raises ValueError for none, for one given twice, or one that is not there."""
    numbers = tuple(slot(index, slots) for index in indices)
    if not numbers:
        raise ValueError(f"slots to insert into: none were given; there are {slots}, 0 to {slots - 1}")
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"slots to insert into: {numbers} names one twice; give each once")
    return numbers
