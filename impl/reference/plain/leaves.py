"""Weights by neutral name: all of them and no other, in float64, and the part of them that belongs to one layer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from impl.config import ModelConfig
from impl.params import declare

__all__ = ["PlainError", "Weights", "below", "exact"]

Weights = Mapping[str, np.ndarray]
"""Neutral name, or name relative to a layer, -> float64 array."""


class PlainError(ValueError):
    """Weights or inputs that do not fit the model. The message names what it is, both values and the cure."""


def exact(config: ModelConfig, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`weights` in float64, and norms that store how far their scale is from 1 with the scale itself.

    gpt3's keep theirs: its norm adds the 1. Raises PlainError unless names and shapes are exactly those of the model.
    """
    shapes = {row.name: row.shape for row in declare(config)}
    problems = [f"{name} is missing: draw the weights for this configuration" for name in shapes if name not in weights]
    problems += [f"{name} belongs to no parameter of this model: remove it" for name in weights if name not in shapes]
    for name in shapes.keys() & weights.keys():
        if np.shape(weights[name]) != shapes[name]:
            problems.append(
                f"{name} has shape {np.shape(weights[name])}, the model wants {shapes[name]}: transpose it?"
            )
    if problems:
        raise PlainError("\n".join(sorted(problems)))
    whole = {name: np.asarray(weights[name]).astype(np.float64) for name in shapes}
    centred = [name for name in whole if name.endswith("/scale")] if config.zero_centred_norm else []
    return whole | {name: 1.0 + whole[name] for name in centred}


def below(weights: Weights, room: str) -> dict[str, np.ndarray]:
    """The weights whose names begin with `room` and a slash, without both."""
    start = f"{room}/"
    return {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}
