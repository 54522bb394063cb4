"""Activations held to logical names inside a step."""

from __future__ import annotations

import jax
from flax import linen as nn
from jax.sharding import AbstractMesh, Mesh, NamedSharding

from impl.sharding.axes import is_explicit, larger

__all__ = ["constrained"]


def constrained(x: jax.Array, names: tuple[str | None, ...], mesh: Mesh | AbstractMesh | None) -> jax.Array:
    """`x` sharded on `mesh` as the rules in force say of `names`; `x` itself where there are no rules or no mesh.

    The mesh is passed on and not set: under jax.set_mesh, nn.DenseGeneral holds a kernel that it has flattened to the
    names of the whole one, and fails. A constraint only holds the compiler: where types say it, `x` is moved.
    """
    if mesh is not None and is_explicit():
        sharding = NamedSharding(jax.sharding.get_abstract_mesh(), nn.logical_to_mesh_axes(names))
        return jax.sharding.reshard(x, larger(sharding))
    return x if mesh is None else nn.with_logical_constraint(x, names, mesh=mesh)
