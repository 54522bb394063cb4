"""Logical names of the activations that both sides hold to a sharding, and how to read what a step holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax

__all__ = ["HIDDEN", "LOGITS", "gathered", "held", "typed_products"]

HIDDEN = ("activation_batch", "activation_length", "activation_embed")
"""Of the residual stream [B, T, E], before the first block and after each."""

LOGITS = ("activation_embed_and_logits_batch", "activation_length", "activation_vocab")
"""Of the logits [B, T, V]."""


_SUMMED = "embed_vocab"


_HELD = {"sharding_constraint": "sharding", "reshard": "dst_sharding"}
"""Name of a primitive -> its parameter that is a sharding."""


def gathered(names: tuple[str | None, ...]) -> tuple[str | None, ...]:
    """The names that a head's weights are held to while tiles go through them: all but that of the axis summed over.

    Every tile needs that axis whole. Words stay where they are.
    """
    return tuple(None if name == _SUMMED else name for name in names)


def held(jaxpr: Any) -> tuple[str, ...]:
    """Every sharding that a traced step holds or brings a value to, in order: dtype, shape and mesh axes as text.

    Mesh axes of size 1 are left out. Inner functions are entered; what a transposition repeats is listed again.
    """
    found = []
    for equation in _equations(jaxpr):
        if equation.primitive.name in _HELD:
            value, sharding = equation.invars[0].aval, equation.params[_HELD[equation.primitive.name]]
            if value.ndim:  # A scalar is whole on every device, whatever is said of it.
                found.append(f"{value.str_short()} {_axes(sharding, value.ndim)}")
    return tuple(found)


def typed_products(jaxpr: Any) -> tuple[int, int]:
    """How many products of a traced step say in their types how they are sharded, and how many there are."""
    products = [each.outvars[0].aval for each in _equations(jaxpr) if each.primitive.name == "dot_general"]
    return sum(any(each.sharding.spec) for each in products), len(products)


def _equations(jaxpr: Any) -> Iterator[Any]:
    for equation in (jaxpr.jaxpr if hasattr(jaxpr, "jaxpr") else jaxpr).eqns:
        yield equation
        for inner in jax.tree.leaves(equation.params, is_leaf=_is_jaxpr):
            if _is_jaxpr(inner):
                yield from _equations(inner)


def _is_jaxpr(node: Any) -> bool:
    return hasattr(node, "eqns") or hasattr(getattr(node, "jaxpr", None), "eqns")


def _axes(sharding: Any, rank: int) -> str:
    spec = (*sharding.spec, *[None] * (rank - len(sharding.spec)))
    parts = [() if entry is None else (entry,) if isinstance(entry, str) else entry for entry in spec]
    kept = ["+".join(axis for axis in axes if sharding.mesh.shape[axis] > 1) or "-" for axes in parts]
    return f"({', '.join(kept)})"
