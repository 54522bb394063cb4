"""Explicit axes: shardings that are part of types, around a step or inside it too.

Inside, JAX follows types from operands to results. It cannot where axes of weights would meet those of rows, and where
words are looked up: there the result is said here, or what makes it is left to the compiler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from impl.config import ConfigError, ModelConfig
from impl.sharding.placement import axes_of
from impl.sharding.plan import Plan

__all__ = [
    "attended",
    "beside",
    "check_typed",
    "dot_general",
    "is_explicit",
    "larger",
    "looked_up",
    "rows_of",
    "summed",
    "typed",
    "within",
]

Spec = tuple[tuple[str, ...], ...]


def within(plan: Plan, step: Callable[..., Any], out: Any) -> Callable[..., Any]:
    """`step` as the plan's axis types want it: as it is, or with the compiler's own shardings inside explicit ones.

    out: shardings of what the step returns.
    """
    return jax.sharding.auto_axes(step, out_sharding=out) if plan.axis_types == "boundary" else step


def check_typed(config: ModelConfig, plan: Plan) -> None:
    """Raises ConfigError for a step that explicit axes cannot go through yet. It names everything that stops them."""
    if plan.axis_types != "explicit":
        return
    stops = {
        "biases": config.attention_bias or config.mlp_bias or config.decoder_block == "gpt3",
        "experts": config.num_experts > 1,
        "attention through latents or with sinks": config.attention_type == "mla" or config.attention_sink,
        "further prediction": config.mtp_num_layers > 0,
        "8-bit products": bool(config.quantization),
        "dropout": config.dropout_rate > 0,
        "ZeRO-1": plan.zero > 0,
        "positions or layers that are split": any(
            plan.mesh.get(axis, 1) != 1
            for name, axes in plan.rules.logical
            if name in ("activation_length", "activation_norm_length", "layers")
            for axis in axes
        ),
    }
    if found := [what for what, stopped in stops.items() if stopped]:
        raise ConfigError(
            f"axis_types='explicit' does not go through {', '.join(found)}: choose 'boundary', whose types end where "
            "the step begins, or 'auto'"
        )


def typed(leaf: jax.Array) -> bool:
    """Whether an array's type says how it is sharded: "float32[8@data,4]" and not "float32[8,4]"."""
    return "@" in str(jax.typeof(leaf))


def is_explicit() -> bool:
    """Whether what is traced now is on a mesh whose axes are explicit."""
    mesh = jax.sharding.get_abstract_mesh()
    return not mesh.empty and all(kind == AxisType.Explicit for kind in mesh.axis_types)


def larger(sharding: NamedSharding) -> NamedSharding:
    """`sharding` without mesh axes of size 1: they shard nothing, but types that differ in one do not go together."""
    sizes, rank = sharding.mesh.shape, len(sharding.spec)
    spec = _spec(tuple(axis for axis in axes if sizes[axis] > 1) for axes in axes_of(sharding, rank))
    return NamedSharding(sharding.mesh, spec, memory_kind=sharding.memory_kind)


def dot_general(lhs: jax.Array, rhs: jax.Array, dimension_numbers: Any, precision: Any, **options: Any) -> jax.Array:
    """jax.lax.dot_general of activations with weights. Of two axes that meet in the result, the activations' stays."""
    if is_explicit():
        (left, right), _ = dimension_numbers
        rows = [axes for place, axes in enumerate(_axes(lhs)) if place not in left]
        taken = {axis for axes in rows for axis in axes}
        rest = [axes for place, axes in enumerate(_axes(rhs)) if place not in right]
        options["out_sharding"] = _spec([*rows, *(tuple(axis for axis in axes if axis not in taken) for axes in rest)])
    return jax.lax.dot_general(lhs, rhs, dimension_numbers, precision=precision, **options)


def attended(x: jax.Array, table: jax.Array) -> jax.Array:
    """Activations [B, T, E] against every row of a table [V, E], under explicit axes."""
    return dot_general(x, table.astype(x.dtype), (((x.ndim - 1,), (1,)), ((), ())), None)


def beside(weight: jax.Array, x: jax.Array) -> jax.Array:
    """`weight` [E] sharded as the last axis of `x` [..., E] is, so that they can be multiplied."""
    return jax.sharding.reshard(weight, _spec(_axes(x)[-weight.ndim :])) if is_explicit() else weight


def rows_of(indices: jax.Array) -> PartitionSpec | None:
    """How rows of a table that are looked up are sharded: as their `indices` are. None where types do not say it."""
    return _spec([*_axes(indices), ()]) if is_explicit() else None


def looked_up(table: jax.Array, indices: jax.Array) -> jax.Array:
    """Rows of a table [V, E] by index, under explicit axes: the compiler finds out how."""
    take = jax.sharding.auto_axes(lambda rows, at: jnp.take(rows, at, axis=0), out_sharding=rows_of(indices))
    return take(table, indices)


def summed(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that returns scalars, left to the compiler where axes are explicit."""
    return jax.sharding.auto_axes(function, out_sharding=PartitionSpec()) if is_explicit() else function


def _axes(x: jax.Array) -> Spec:
    return axes_of(jax.typeof(x).sharding, x.ndim)


def _spec(axes: Any) -> PartitionSpec:
    return PartitionSpec(*(each or None for each in axes))
