"""Activations held to logical names inside a step: NNX's counterpart of flax.linen's with_logical_constraint."""

from __future__ import annotations

from collections.abc import Sequence

import jax
from flax import nnx
from flax.core import spmd

from impl.sharding.axes import is_explicit
from impl.sharding.rules import assigned

__all__ = ["constrained"]


def constrained(x: jax.Array, names: Sequence[str | None]) -> jax.Array:
    """`x` sharded as the rules in force say of `names`; `x` itself where there are no rules or no mesh."""
    rules, mesh = spmd.get_logical_axis_rules(), jax.sharding.get_abstract_mesh()
    if not rules or mesh.empty:
        return x
    found = assigned(names, rules)
    if is_explicit():
        found = {name: tuple(axis for axis in axes if mesh.shape[axis] > 1) for name, axes in found.items()}
    with nnx.logical_axis_rules(tuple(found.items())):
        return spmd.shard_value(x, tuple(names), (), mesh)
