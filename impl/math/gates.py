"""The activations of an MLP, and the product of several that makes it gated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp

__all__ = ["ACTIVATIONS", "activate", "clipped_gate", "gate"]


def _linear(x: jax.Array) -> jax.Array:
    return x


ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = MappingProxyType(
    {
        "gelu": jax.nn.gelu,  # the tanh approximation
        "linear": _linear,
        "relu": jax.nn.relu,
        "sigmoid": jax.nn.sigmoid,
        "silu": jax.nn.silu,
    }
)
"""Every activation by name; "linear" changes nothing, "gelu" is the approximation by tanh."""


def activate(name: str, x: jax.Array) -> jax.Array:
    """The activation called `name`, elementwise, shape and dtype kept. Raises ValueError for a name not known."""
    if name not in ACTIVATIONS:
        raise ValueError(f"no activation called {name!r}: choose from {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name](x)


def gate(activations: tuple[str, ...], projections: tuple[jax.Array, ...]) -> jax.Array:
    """The product, from left to right, of each projection [..., F] under its activation, in the projections' dtype.

    ("silu", "linear") is SwiGLU, ("gelu", "linear") GeGLU (arXiv 2002.05202), a single one a plain MLP.
    Raises ValueError if there are not as many projections as activations, or none at all.
    """
    if len(activations) != len(projections) or not activations:
        raise ValueError(
            f"{len(activations)} activations for {len(projections)} projections: give one for each, at least one"
        )
    first, *others = (activate(name, x) for name, x in zip(activations, projections, strict=True))
    for other in others:
        first = first * other
    return first


def clipped_gate(activations: tuple[str, ...], projections: tuple[jax.Array, ...], limit: float) -> jax.Array:
    """gpt-oss's product of a gate g and a value u [..., F]: g f(1.702 g) (u + 1), with g <= limit and |u| <= limit.

    f is the first activation; with "sigmoid", g f(1.702 g) approximates GELU (arXiv 1606.08415, section 2). Raises
    ValueError unless there are two projections and activations, the second of them linear.
    """
    if len(projections) != 2 or len(activations) != 2 or activations[1] != "linear":
        raise ValueError(
            f"a clipped gate is of a gate and a linear value, got {activations}: give two, the second linear"
        )
    opened, value = jnp.minimum(projections[0], limit), jnp.clip(projections[1], -limit, limit)
    return opened * activate(activations[0], opened * 1.702) * (value + 1.0)
