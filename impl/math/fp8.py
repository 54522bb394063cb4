"""Products of 8-bit floats with delayed scaling, forward and backward, and what they remember.

A tensor t is represented by the 8-bit floats nearest to t / s. Its scale s comes from the history of largest absolute
values (amax) of steps before: what this step finds changes the next step's scale, not its own. The recipe is NVIDIA's
(Transformer Engine; "FP8 Formats for Deep Learning", arXiv 2209.05433): 4 exponent bits forward, 5 for gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["FORMATS", "Formats", "Meta", "next_history", "next_scale", "product", "represented"]

MARGIN = 0
"""Powers of two left between the largest amax and the largest number of a format."""


class Formats(NamedTuple):
    """forward: of both operands; backward: of the result's gradient. direct: 8-bit operands are multiplied as such."""

    forward: jnp.dtype
    backward: jnp.dtype
    direct: bool


FORMATS = {
    "fp8": Formats(jnp.dtype(jnp.float8_e4m3fn), jnp.dtype(jnp.float8_e5m2), False),
    "fp8_gpu": Formats(jnp.dtype(jnp.float8_e4m3fn), jnp.dtype(jnp.float8_e5m2), True),
    "fp8_nanoo": Formats(jnp.dtype(jnp.float8_e4m3fnuz), jnp.dtype(jnp.float8_e5m2fnuz), False),
}


class Meta(NamedTuple):
    """What is remembered of one tensor, float32: its amax of earlier steps [A], the newest first and then from the
    oldest on; its scale [1]."""

    history: jax.Array
    scale: jax.Array


def next_scale(meta: Meta, form: jnp.dtype) -> jax.Array:
    """The scale for this step [1]: the history's largest amax becomes the format's largest number.

    A history of zeros, or one that holds no number, keeps the scale.
    """
    amax = jnp.max(meta.history, axis=0)
    kept = 1.0 / meta.scale
    inverse = jnp.where(amax > 0.0, _largest(form, jnp.float32) / amax / 2.0**MARGIN, kept)
    return 1.0 / jnp.where(jnp.isfinite(amax), inverse, kept)


def next_history(values: jax.Array, history: jax.Array) -> jax.Array:
    """The history [A] after this step: turned by one, with the amax of `values` in place of the oldest."""
    amax = jnp.max(jnp.abs(values)).astype(history.dtype)
    return jnp.roll(history, shift=-1, axis=0).at[0].set(amax)


def represented(values: jax.Array, scale: jax.Array, form: jnp.dtype) -> jax.Array:
    """`values` / `scale` [1] as 8-bit floats; what is too large becomes the format's largest number."""
    largest = _largest(form, values.dtype)
    return jnp.clip(values / _spread(scale, values), -largest, largest).astype(form)


def _largest(form: jnp.dtype, dtype: jnp.dtype) -> jax.Array:
    return jnp.finfo(form).max.astype(dtype)


def _spread(scale: jax.Array, values: jax.Array) -> jax.Array:
    return jnp.broadcast_to(scale.astype(values.dtype), values.shape)


def _rounded(values: jax.Array, scale: jax.Array, form: jnp.dtype) -> jax.Array:
    """`values` to 8 bits and back."""
    return represented(values, scale, form).astype(values.dtype) * _spread(scale, values)


def _updated(values: jax.Array, meta: Meta, form: jnp.dtype) -> Meta:
    return Meta(next_history(values, meta.history), next_scale(meta, form))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def product(
    contracted: int, formats: Formats, x: jax.Array, kernel: jax.Array, metas: tuple[Meta, Meta, Meta]
) -> jax.Array:
    """x [..., C...] times kernel [C..., O...] -> [..., O...] in the dtype of both, `contracted` axes being summed over.

    metas: of x, of the kernel and of the result's gradient. The "gradient" of a meta is what it is after this step.
    Rounding has the gradient of doing nothing.
    """
    return _forward(contracted, formats, x, kernel, metas)[0]


def _forward(
    contracted: int, formats: Formats, x: jax.Array, kernel: jax.Array, metas: tuple[Meta, Meta, Meta]
) -> tuple[jax.Array, tuple]:
    after = _updated(x, metas[0], formats.forward), _updated(kernel, metas[1], formats.forward)
    make = represented if formats.direct else _rounded
    held = make(x, after[0].scale, formats.forward), make(kernel, after[1].scale, formats.forward)
    last = tuple(range(x.ndim - contracted, x.ndim))
    out = _dot(held, (last, tuple(range(contracted))), lax.Precision.DEFAULT, x.dtype)
    if formats.direct:
        out = out * _spread(after[0].scale * after[1].scale, out)
    return out, (held, after, metas[2])


def _backward(contracted: int, formats: Formats, kept: tuple, grad: jax.Array) -> tuple:
    (x, kernel), after, meta = kept
    new = _updated(grad, meta, formats.backward)
    make = represented if formats.direct else _rounded
    held = make(grad, new.scale, formats.backward)
    outer, leading = kernel.ndim - contracted, x.ndim - contracted
    of_grad = tuple(range(leading, leading + outer))
    by_x = _dot((held, kernel), (of_grad, tuple(range(contracted, kernel.ndim))), lax.Precision.HIGHEST, grad.dtype)
    rows = tuple(range(leading))
    by_kernel = _dot((held, x), (rows, rows), lax.Precision.HIGHEST, grad.dtype)
    by_kernel = jnp.transpose(by_kernel, (*range(outer, kernel.ndim), *range(outer)))
    if formats.direct:
        by_x = by_x * _spread(after[1].scale * new.scale, by_x)
        by_kernel = by_kernel * _spread(after[0].scale * new.scale, by_kernel)
    return by_x, by_kernel, (*after, new)


product.defvjp(_forward, _backward)


def _dot(
    operands: tuple[jax.Array, jax.Array],
    axes: tuple[Sequence[int], Sequence[int]],
    precision: lax.Precision,
    dtype: jnp.dtype,
) -> jax.Array:
    return lax.dot_general(*operands, (axes, ((), ())), precision=precision, preferred_element_type=dtype)
