"""Rotary position embedding: pairs of coordinates turned by an angle that grows with the position.

Plain RoPE is arXiv 2104.09864; "llama3.1" slows the long wavelengths down as Llama 3.1 does; "yarn" is arXiv
2309.00071. The three also differ in which coordinates make a pair, and in where the arithmetic is done, as in MaxText.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from impl.math.precision import full

__all__ = ["Frequencies", "Kind", "rotate"]

Kind = Literal["default", "llama3.1", "yarn"]

LLAMA_FACTOR, LLAMA_LOW, LLAMA_HIGH, LLAMA_LENGTH = 8.0, 1.0, 4.0, 8192.0


@dataclass(frozen=True)
class Frequencies:
    """How fast each of the D/2 pairs turns. Hashable, so it may be a static argument of jit.

    All kinds read head_dim (D) and max_timescale. "default" and "llama3.1" read min_timescale, "default" alone
    linear_factor, which stretches every wavelength. The rest belong to "yarn": factor, original_length, beta_fast and
    beta_slow (turns over the original length, between which slowing down fades in), interleave (input pairs are
    neighbours, not halves), truncate (round that range to whole dimensions) and attention_scaling.

    Raises ValueError for an unknown kind, an odd head_dim, and for "yarn" with max_timescale 1, which has no range.
    """

    kind: Kind
    head_dim: int
    min_timescale: float = 1
    max_timescale: float = 10_000
    linear_factor: float = 1.0
    factor: float = 40.0
    original_length: int = 4096
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    interleave: bool = True
    truncate: bool = True
    attention_scaling: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"no rotary embedding called {self.kind!r}: choose from {', '.join(get_args(Kind))}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim={self.head_dim} is odd: coordinates turn in pairs, make it even")
        if self.kind == "yarn" and self.max_timescale <= 1:
            raise ValueError(f"yarn needs max_timescale above 1, not {self.max_timescale}: it takes its logarithm")


def rotate(x: jax.Array, positions: jax.Array, frequencies: Frequencies) -> jax.Array:
    """Turn queries or keys x [B, T, H, D] at positions int [B, T]; the shape and dtype stay.

    default: coordinates i and i + D/2 are a pair, in and out. Angles are float32; their sines are cast to x's dtype
    and the products are taken there.
    llama3.1: neighbours 2i and 2i + 1 are a pair, in and out. All float32, then cast.
    yarn: neighbours or halves in (`interleave`), halves out. All float32, then cast; with `attention_scaling` the
    result is multiplied by 0.1 * ln(factor) + 1 before the cast, by 1 for a factor below 1.

    Raises ValueError if x's last axis is not frequencies.head_dim.
    """
    if x.shape[-1] != frequencies.head_dim:
        raise ValueError(
            f"x has {x.shape[-1]} coordinates a head, frequencies were made for head_dim={frequencies.head_dim}: "
            "make them equal"
        )
    spots = positions[:, :, None, None].astype(full())
    if frequencies.kind == "default":
        return _rotate_default(x, spots, frequencies)
    if frequencies.kind == "llama3.1":
        return _rotate_llama(x, spots, frequencies)
    return _rotate_yarn(x, spots, frequencies)


def _rotate_default(x: jax.Array, spots: jax.Array, frequencies: Frequencies) -> jax.Array:
    timescales = _timescales(frequencies)
    if frequencies.linear_factor != 1.0:
        timescales = timescales * frequencies.linear_factor
    return jnp.concatenate(_turned(_halves(x), spots / timescales), axis=-1)


def _rotate_llama(x: jax.Array, spots: jax.Array, frequencies: Frequencies) -> jax.Array:
    slowed = _slowed_as_llama(1.0 / _timescales(frequencies))
    # Back to timescales: the rounding of the two reciprocals is part of what has to be matched.
    pairs = _turned(_neighbours(x.astype(full())), spots / (1.0 / slowed))
    return jnp.stack(pairs, axis=-1).reshape(x.shape).astype(x.dtype)


def _rotate_yarn(x: jax.Array, spots: jax.Array, frequencies: Frequencies) -> jax.Array:
    take = _neighbours if frequencies.interleave else _halves
    turned = jnp.concatenate(_turned(take(x.astype(full())), spots * _yarn(frequencies)), axis=-1)
    if frequencies.attention_scaling:
        turned = turned * (0.1 * math.log(max(frequencies.factor, 1.0)) + 1.0)
    return turned.astype(x.dtype)


def _turned(pair: tuple[jax.Array, jax.Array], angles: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both coordinates [B, T, H, D/2] after a turn by float32 `angles` [B, T, 1, D/2], in the pair's dtype."""
    first, second = pair
    sine, cosine = jnp.sin(angles).astype(first.dtype), jnp.cos(angles).astype(first.dtype)
    return first * cosine - second * sine, second * cosine + first * sine


def _halves(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    first, second = jnp.split(x, 2, axis=-1)
    return first, second


def _neighbours(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return x[..., 0::2], x[..., 1::2]


def _fractions(size: int) -> jax.Array:
    """2i / D for each pair i: float32 [D/2]."""
    return 2.0 * jnp.arange(size // 2, dtype=full()) / size


def _timescales(frequencies: Frequencies) -> jax.Array:
    """Positions per radian of each pair, a geometric series from min_timescale towards max_timescale: float32 [D/2]."""
    low, high = frequencies.min_timescale, frequencies.max_timescale
    return low * (high / low) ** _fractions(frequencies.head_dim)


def _slowed_as_llama(radians: jax.Array) -> jax.Array:
    """Radians per position after Llama 3.1's change: float32 [D/2].

    Wavelengths beyond the original length turn LLAMA_FACTOR times slower, those below a quarter of it as before, and
    in between the two are mixed.
    """
    wavelengths = 2.0 * math.pi / radians
    kept = (LLAMA_LENGTH / wavelengths - LLAMA_LOW) / (LLAMA_HIGH - LLAMA_LOW)
    mixed = (1.0 - kept) * radians / LLAMA_FACTOR + kept * radians
    slowed = jnp.where(wavelengths > LLAMA_LENGTH / LLAMA_LOW, radians / LLAMA_FACTOR, mixed)
    return jnp.where(wavelengths < LLAMA_LENGTH / LLAMA_HIGH, radians, slowed)


def _yarn(frequencies: Frequencies) -> jax.Array:
    """Radians per position of each pair under YaRN: float32 [D/2]."""
    radians = 1.0 / frequencies.max_timescale ** _fractions(frequencies.head_dim)
    low, high = _yarn_range(frequencies)
    # Where the range is a single dimension it becomes a step; the width only has to be positive and below 1.
    width = max(high - low, 0.001)
    slowed = jnp.clip((jnp.arange(frequencies.head_dim // 2, dtype=full()) - low) / width, 0.0, 1.0)
    kept = 1.0 - slowed
    return radians / frequencies.factor * (1.0 - kept) + radians * kept


def _yarn_range(frequencies: Frequencies) -> tuple[float, float]:
    """The dimensions that turn beta_fast and beta_slow times within the original length, inside [0, D - 1]."""
    size, base = frequencies.head_dim, frequencies.max_timescale
    low, high = (
        size * math.log(frequencies.original_length / (turns * 2.0 * math.pi)) / (2.0 * math.log(base))
        for turns in (frequencies.beta_fast, frequencies.beta_slow)
    )
    if frequencies.truncate:
        low, high = math.floor(low), math.ceil(high)
    return min(max(low, 0), size - 1), min(max(high, 0), size - 1)
