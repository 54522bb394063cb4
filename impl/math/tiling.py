"""Cross entropy from hidden states in tiles of positions, so that the logits of a whole batch never exist at once.

Forward and backward pass each go over the tiles once and make one tile's logits at a time. What the head needs is the
same for every tile and enters both passes once. The derivative is written by hand, because the automatic one would keep
every tile's logits for the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from impl.math.loss import LossTerms, loss_terms
from impl.math.precision import full

__all__ = ["Gradients", "Tiling", "cut", "joined", "likeliest", "tiled_loss_terms"]

Gradients = Literal["exact", "maxtext-0.2.4"]
"""What the backward pass returns: the derivative, or what MaxText's release 0.2.4 returns for it."""

Head = Callable[[Any, jax.Array], jax.Array]
"""(weights, hidden [B, t, E]) -> logits [B, t, V]. It must not close over traced values: they all are in weights."""


class Tiling(NamedTuple):
    """tiles: how many; z_loss: as in `impl.math.loss.token_losses`; gradients: which backward pass."""

    tiles: int
    z_loss: float
    gradients: Gradients = "exact"


def cut(values: jax.Array, count: int) -> jax.Array:
    """[B, T, ...] -> [count, B, T / count, ...]: tile j holds positions j, j + count, j + 2 count... of every row.

    Whole rows of a batch stay on their devices and every device works on every tile, wherever rows or positions are
    split between devices. Raises ValueError if T is not a multiple of `count`.
    """
    rows, length = values.shape[:2]
    if count < 1 or length % count:
        raise ValueError(f"rows of {length} positions cannot be cut into {count} equal tiles: choose a divisor")
    return jnp.moveaxis(values.reshape(rows, length // count, count, *values.shape[2:]), 2, 0)


def joined(tiles: jax.Array) -> jax.Array:
    """[count, B, T / count, ...] -> [B, T, ...]: what `cut` took apart."""
    count, rows, length = tiles.shape[:3]
    return jnp.moveaxis(tiles, 0, 2).reshape(rows, length * count, *tiles.shape[3:])


def tiled_loss_terms(
    head: Head, tiling: Tiling, weights: Any, hidden: jax.Array, targets: jax.Array, target_segments: jax.Array
) -> LossTerms:
    """`impl.math.loss.loss_terms` of head(weights, hidden), tile by tile.

    weights: a tree of float arrays. hidden [B, T, E]; targets and target_segments int [B, T]. Differentiable once, in
    reverse mode, by weights and hidden. Gradients of weights are summed over tiles in float32 at least, and rounded to
    the weights' dtype once.
    """
    return _terms(head, tiling, weights, hidden, (targets, target_segments))


def likeliest(head: Head, weights: Any, tiles: int, hidden: jax.Array) -> jax.Array:
    """The likeliest token at each position, int [B, T], of head(weights, hidden), tile by tile. It has no gradient."""
    kept, rows = jax.lax.stop_gradient((weights, hidden))
    return joined(jax.lax.map(lambda tile: jnp.argmax(head(kept, tile), axis=-1), cut(rows, tiles)))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _terms(
    head: Head, tiling: Tiling, weights: Any, hidden: jax.Array, labels: tuple[jax.Array, jax.Array]
) -> LossTerms:
    def step(sums: LossTerms, tile: tuple[jax.Array, ...]) -> tuple[LossTerms, None]:
        found = _of_tile(head, tiling, weights, *tile)
        return LossTerms(*map(jnp.add, sums, found)), None

    start = LossTerms(*[jnp.zeros((), full())] * len(LossTerms._fields))
    return jax.lax.scan(step, start, _tiles(tiling, hidden, labels))[0]


def _of_tile(
    head: Head, tiling: Tiling, weights: Any, hidden: jax.Array, targets: jax.Array, target_segments: jax.Array
) -> LossTerms:
    return loss_terms(head(weights, hidden), targets, target_segments, tiling.z_loss)


def _tiles(tiling: Tiling, hidden: jax.Array, labels: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, ...]:
    return tuple(cut(values, tiling.tiles) for values in (hidden, *labels))


def _forward(
    head: Head, tiling: Tiling, weights: Any, hidden: jax.Array, labels: tuple[jax.Array, jax.Array]
) -> tuple[LossTerms, tuple[Any, ...]]:
    """The terms, and what the backward pass needs: the inputs, and no logits."""
    return _terms(head, tiling, weights, hidden, labels), (weights, hidden, labels)


def _backward(head: Head, tiling: Tiling, kept: tuple[Any, ...], cotangents: LossTerms) -> tuple[Any, ...]:
    """Cotangents of weights and hidden. Labels are integers and have none."""
    weights, hidden, labels = kept
    inner, outer = _FACTORS[tiling.gradients](cotangents)

    def step(total: Any, tile: tuple[jax.Array, ...]) -> tuple[Any, jax.Array]:
        _, pull = jax.vjp(lambda w, h: _of_tile(head, tiling, w, h, *tile[1:]), weights, tile[0])
        of_weights, of_hidden = pull(inner)
        return jax.tree.map(lambda sums, part: sums + part.astype(sums.dtype), total, of_weights), of_hidden

    start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.promote_types(leaf.dtype, full())), weights)
    total, of_hidden = jax.lax.scan(step, start, _tiles(tiling, hidden, labels))
    of_weights = jax.tree.map(lambda sums, leaf: outer(sums).astype(leaf.dtype), total, weights)
    return of_weights, joined(of_hidden), None


def _exact(cotangents: LossTerms) -> tuple[LossTerms, Callable[[jax.Array], jax.Array]]:
    """Every tile is given the cotangents themselves: nothing is left to multiply."""
    return cotangents, lambda total: total


def _maxtext_0_2_4(cotangents: LossTerms) -> tuple[LossTerms, Callable[[jax.Array], jax.Array]]:
    """Tiles are given 1; the gradient of the head is multiplied by the cotangent, that of the hidden states is not."""
    ones = LossTerms(jnp.ones((), full()), jnp.zeros((), full()), jnp.zeros((), full()))
    return ones, lambda total: total * cotangents.xent_sum.astype(total.dtype)


_FACTORS = {"exact": _exact, "maxtext-0.2.4": _maxtext_0_2_4}
"""Gradients -> cotangents of the loss terms -> (cotangents of a tile's terms, what is done to the summed gradients)."""

_terms.defvjp(_forward, _backward)
