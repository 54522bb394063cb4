"""Explicit axes around a step: its arguments and results carry their shardings in their types, its inside does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from impl.sharding.plan import Plan

__all__ = ["typed", "within"]


def within(plan: Plan, step: Callable[..., Any], out: Any) -> Callable[..., Any]:
    """`step` as the plan's axis types want it: as it is, or with the compiler's own shardings inside explicit ones.

    out: shardings of what the step returns.
    """
    return {"auto": step, "explicit": jax.sharding.auto_axes(step, out_sharding=out)}[plan.axis_types]


def typed(leaf: jax.Array) -> bool:
    """Whether an array's type says how it is sharded: "float32[8@data,4]" and not "float32[8,4]"."""
    return "@" in str(jax.typeof(leaf))
