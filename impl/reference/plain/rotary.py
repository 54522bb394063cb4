"""Rotary positions: each pair of a head's coordinates is a complex number, turned by the position times its frequency.

Three kinds differ in the frequencies and in which coordinates make a pair.
"""

from __future__ import annotations

import cmath
import math

import numpy as np

from impl.config import ModelConfig

__all__ = ["magnitude", "pairs", "radians", "turned"]

Pair = tuple[int, int]


def turned(vector: np.ndarray, position: float, config: ModelConfig) -> np.ndarray:
    """The query or key [D] of one head, turned to `position`."""
    result = np.empty_like(vector)
    for ((real, imaginary), (real_out, imaginary_out)), speed in zip(pairs(config), radians(config), strict=True):
        number = complex(vector[real], vector[imaginary]) * cmath.exp(1j * position * speed)
        result[real_out], result[imaginary_out] = number.real, number.imag
    return result * magnitude(config)


def pairs(config: ModelConfig) -> list[tuple[Pair, Pair]]:
    """For each of the D/2 pairs, where its two coordinates are read and where they are written.

    default: half a head apart. llama3.1: neighbours. yarn: neighbours or half a head apart where they are read, as
    rope_interleave says, and half a head apart where they are written.
    """
    half = config.head_dim // 2
    apart = [(index, index + half) for index in range(half)]
    neighbours = [(2 * index, 2 * index + 1) for index in range(half)]
    if config.rope_type == "llama3.1":
        return list(zip(neighbours, neighbours, strict=True))
    if config.rope_type == "yarn" and config.rope_interleave:
        return list(zip(neighbours, apart, strict=True))
    return list(zip(apart, apart, strict=True))


def radians(config: ModelConfig) -> list[float]:
    """How far each of the D/2 pairs turns from one position to the next."""
    return [_KINDS[config.rope_type](config, index) for index in range(config.head_dim // 2)]


def _default(config: ModelConfig, index: int) -> float:
    """The slowest pair's wavelength tends to 2 pi max_timescale, and all are stretched by the linear factor."""
    return _geometric(config, index, config.rope_min_timescale) / config.rope_linear_scaling_factor


def _geometric(config: ModelConfig, index: int, first: float) -> float:
    """1/first for pair 0, then falling by one and the same ratio, which would reach 1/max_timescale at pair D/2."""
    share = index / (config.head_dim / 2)
    return math.exp(-(1.0 - share) * math.log(first) - share * math.log(config.rope_max_timescale))


def _llama(config: ModelConfig, index: int) -> float:
    """Pairs that turn less than once in 8192 positions go 8 times slower, more than four times as before.

    In between the share of the old frequency grows linearly with the number of turns.
    """
    plain = _geometric(config, index, config.rope_min_timescale)
    turns = 8192 * plain / (2 * math.pi)
    kept = min(1.0, max(0.0, (turns - 1.0) / (4.0 - 1.0)))
    return kept * plain + (1.0 - kept) * plain / 8.0


def _yarn(config: ModelConfig, index: int) -> float:
    """Pairs below a range keep their frequency, those above it are slowed by the factor, linearly in between.

    The range lies between the pairs that turn beta_fast and beta_slow times over the original length, rounded outwards
    where rope_truncate says so, and begins at 0 and ends at D - 1 at the most. An empty range is a step.
    """
    plain = _geometric(config, index, 1.0)
    first, last = _pair_that_turns(config, config.beta_fast), _pair_that_turns(config, config.beta_slow)
    if config.rope_truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0.0), min(last, config.head_dim - 1.0)
    share = min(1.0, max(0.0, (index - first) / (last - first))) if last > first else float(index > first)
    return (1.0 - share) * plain + share * plain / config.rope_factor


def _pair_that_turns(config: ModelConfig, turns: float) -> float:
    """The pair, as a real number, which would turn so many times over the original length: `_geometric` solved."""
    speed = 2 * math.pi * turns / config.original_max_position_embeddings
    return -math.log(speed) / math.log(config.rope_max_timescale) * config.head_dim / 2


def magnitude(config: ModelConfig) -> float:
    """What a turned vector is multiplied by: 1, or YaRN's 0.1 ln s + 1 for a factor s above 1 where it is asked for."""
    if config.rope_type != "yarn" or not config.rope_attention_scaling or config.rope_factor <= 1.0:
        return 1.0
    return 0.1 * math.log(config.rope_factor) + 1.0


_KINDS = {"default": _default, "llama3.1": _llama, "yarn": _yarn}
