"""A train step on a mesh as a graph: a side's abstract step with the shardings that it is compiled for laid on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import jax
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from impl.sharding.placement import Placement
from impl.sharding.plan import Plan
from impl.sharding.zero import over_data
from impl.staging import Staged

__all__ = ["spread", "state_shardings"]

Values = dict[str, Any]
BATCH, UPDATED = "batch/", "updates/"


def state_shardings(
    placed: Mapping[str, Placement], mesh: AbstractMesh, plan: Plan, rows: PartitionSpec
) -> dict[str, NamedSharding]:
    """The sharding of what enters a step by name: leaves of the state where they are `placed`, slots as ZeRO-1 says.

    rows: of every field of the batch, which is named here as "batch/".
    """
    found = {BATCH: NamedSharding(mesh, rows)}
    for name, each in placed.items():
        sharding = NamedSharding(mesh, PartitionSpec(*(axes or None for axes in each.spec)))
        found[name] = over_data(sharding, each.shape) if plan.zero and name[:1].isdigit() else sharding
    return found


def spread(
    staged: Mapping[str, Staged],
    shardings: Mapping[str, NamedSharding],
    within: Callable[[], AbstractContextManager[Any]],
) -> dict[str, Staged]:
    """The parts of a training on a mesh: what makes a state, as it is, and the step.

    within: where names of activations mean something. What the step takes and returns is held to `shardings`, so that
    a proof compares them too.
    """

    def step(values: Values) -> Values:
        with within():
            found = staged["step"].function(_held(values, shardings, ""))
            return _held(found, shardings, UPDATED)

    return {"start": staged["start"], "step": staged["step"]._replace(function=step)}


def _held(values: Values, shardings: Mapping[str, NamedSharding], prefix: str) -> Values:
    """`values` with those held to their shardings that have one, under their names without `prefix`."""

    def sharding(name: str) -> NamedSharding | None:
        if name.startswith(BATCH):
            return shardings[BATCH]
        return shardings.get(name.removeprefix(prefix)) if name.startswith(prefix) else None

    places = {name: sharding(name) for name in values}
    return {
        name: value if places[name] is None else jax.lax.with_sharding_constraint(value, places[name])
        for name, value in values.items()
    }
