"""Activations held to logical names inside a step."""

from __future__ import annotations

import jax
from flax import linen as nn
from jax.sharding import Mesh

__all__ = ["constrained"]


def constrained(x: jax.Array, names: tuple[str | None, ...], mesh: Mesh | None) -> jax.Array:
    """`x` sharded on `mesh` as the rules in force say of `names`; `x` itself where there are no rules or no mesh.

    The mesh is passed on and not set: under jax.set_mesh, nn.DenseGeneral holds a kernel that it has flattened to the
    names of the whole one, and fails.
    """
    return x if mesh is None else nn.with_logical_constraint(x, names, mesh=mesh)
