"""Multi-head latent attention, the parts around the projections: what is split, turned, joined, and by what it scales.

Source: arXiv 2405.04434, section 2.1. Keys and values are made of one latent vector a token, and of a part that is
turned by its position and that all heads share. Letters beside those of `impl.math`, for one head: Dn coordinates that
do not turn, Dr that do, Dv of a value; C is the width of the latent.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from impl.math.rope import Frequencies, rotate

__all__ = ["compressed", "expanded", "magnitude", "placed", "softmax_scale"]


def magnitude(mscale: float, factor: float, longest: int, original: int) -> float:
    """What queries and keys are each longer by where a model was stretched: 0.1 mscale ln(factor) + 1, else 1.

    longest: positions that the model was made for; original: those that it was first trained on. Source: arXiv
    2309.00071, section 3.4, with DeepSeek's own weight of the logarithm.
    """
    return 0.1 * mscale * math.log(factor) + 1.0 if longest > original else 1.0


def softmax_scale(size: int, stretch: float) -> float:
    """By what dot products of `size` coordinates, Dn + Dr, are multiplied: size**-0.5, and the magnitude squared."""
    return size**-0.5 * stretch**2


def placed(query: jax.Array, positions: jax.Array, frequencies: Frequencies) -> jax.Array:
    """Queries [B, T, H, Dn+Dr] whose last Dr coordinates are turned to positions int [B, T]; shape and dtype stay.

    Raises ValueError unless Dr, which is frequencies.head_dim, is below the width of a head.
    """
    still, turning = jnp.split(query, [_first(query.shape[-1], frequencies.head_dim)], axis=-1)
    return jnp.concatenate([still, rotate(turning, positions, frequencies)], axis=-1)


def compressed(projected: jax.Array, positions: jax.Array, frequencies: Frequencies) -> tuple[jax.Array, jax.Array]:
    """[B, T, C+Dr] -> the latent [B, T, C], not normed yet, and the shared part of the keys [B, T, 1, Dr], turned.

    Raises ValueError unless Dr, which is frequencies.head_dim, is below the projection's width.
    """
    latent, turning = jnp.split(projected, [_first(projected.shape[-1], frequencies.head_dim)], axis=-1)
    return latent, rotate(turning[:, :, None], positions, frequencies)


def expanded(projected: jax.Array, shared: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Keys [B, S, H, Dn+Dr] and values [B, S, H, Dv] of [B, S, H, Dn+Dv] and the keys' shared part [B, S, 1, Dr].

    size: Dn. Every head's key ends in the same Dr coordinates.
    """
    still, value = jnp.split(projected, [size], axis=-1)
    turned = jnp.broadcast_to(shared, (*still.shape[:-1], shared.shape[-1]))
    return jnp.concatenate([still, turned], axis=-1), value


def _first(width: int, turning: int) -> int:
    """How many of `width` coordinates come before the last `turning`."""
    if turning >= width:
        raise ValueError(f"{turning} coordinates turn, of {width}: some must be left that do not")
    return width - turning
