"""What a batch must be before a step may see it: JAX would clamp, drop or broadcast most of these mistakes silently."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from impl.config import ConfigError, ModelConfig
from impl.training.objective import Batch
from impl.training.settings import TrainSettings

__all__ = ["BatchError", "check_batch", "check_rows"]


class BatchError(ValueError):
    """A batch that does not fit the model. The message names the field, what it is and what it must be."""


def check_batch(batch: Batch, config: ModelConfig, settings: TrainSettings) -> None:
    """Raise BatchError unless `batch` fits `config`, ConfigError unless it divides into microbatches and tiles."""
    fields = {name: np.asarray(value) for name, value in batch._asdict().items()}
    check_rows(fields, ("tokens", "targets"), config, settings)


def check_rows(
    fields: Mapping[str, np.ndarray], tokens: tuple[str, ...], config: ModelConfig, settings: TrainSettings
) -> None:
    """`check_batch` for any fields [rows, length] by name; those called `tokens` must lie in the vocabulary."""
    first = tokens[0]
    shape = fields[first].shape
    if len(shape) != 2 or 0 in shape:
        raise BatchError(f"{first} have shape {shape}: they must be [rows, length], neither of them 0")
    for name, value in fields.items():
        if not np.issubdtype(value.dtype, np.integer):
            raise BatchError(f"{name} are {value.dtype}: they must be integers")
        if value.shape != shape:
            raise BatchError(f"{name} have shape {value.shape}, {first} have {shape}: they must agree")
    for name in tokens:
        _check_range(name, fields[name], config.vocab_size, "vocab_size")
    for name in fields:
        if config.trainable_position_size and name.endswith("positions"):
            _check_range(name, fields[name], config.trainable_position_size, "trainable_position_size")
    if shape[1] > config.max_target_length:
        raise BatchError(f"rows of {shape[1]} tokens exceed max_target_length={config.max_target_length}: cut them")
    count = settings.gradient_accumulation_steps
    if shape[0] % count:
        raise ConfigError(f"{shape[0]} rows do not divide into gradient_accumulation_steps={count} microbatches")
    count = settings.num_vocab_tiling
    if shape[1] % count:
        raise ConfigError(f"rows of {shape[1]} tokens do not divide into num_vocab_tiling={count} tiles: use a divisor")


def _check_range(name: str, value: np.ndarray, limit: int, field: str) -> None:
    low, high = int(value.min()), int(value.max())
    if low < 0 or high >= limit:
        raise BatchError(f"{name} range from {low} to {high}: they must lie in [0, {field}={limit})")
