"""A train step on a mesh as a graph: a side's abstract step with the shardings that it is compiled for laid on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import jax
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from impl.sharding.axes import larger
from impl.sharding.placement import Placement
from impl.sharding.plan import Plan
from impl.sharding.zero import over_data
from impl.staging import Staged

__all__ = ["entering", "spread"]

Values = dict[str, Any]
BATCH, UPDATED = "batch/", "updates/"


def entering(
    placed: Mapping[str, Placement], mesh: AbstractMesh, plan: Plan, rows: PartitionSpec
) -> dict[str, NamedSharding]:
    """The sharding of what enters a step by name: leaves of the state where they are `placed`, slots as ZeRO-1 says.

    rows: of every field of the batch, which is named here as "batch/".
    """
    found = {BATCH: NamedSharding(mesh, rows)}
    for name, each in placed.items():
        sharding = NamedSharding(mesh, PartitionSpec(*(axes or None for axes in each.spec)))
        found[name] = over_data(sharding, each.shape) if plan.zero and name[:1].isdigit() else sharding
    return {name: larger(each) for name, each in found.items()} if plan.axis_types == "explicit" else found


def spread(
    staged: Mapping[str, Staged],
    shardings: Mapping[str, NamedSharding],
    named: Callable[[], AbstractContextManager[Any]],
    plan: Plan,
) -> dict[str, Staged]:
    """The parts of a training on a mesh: what makes a state, as it is, and the step.

    named: within it, names of activations mean something. What the step takes and returns is held to `shardings`, so
    that a proof compares them too; under explicit axes the type of every value between them as well.
    """
    mesh = shardings[BATCH].mesh.abstract_mesh

    def traced(values: Values) -> Values:
        with named():
            return staged["step"].function(values)

    def step(values: Values) -> Values:
        places = _places(values, shardings, "")
        with jax.sharding.use_abstract_mesh(mesh):
            if plan.axis_types == "explicit":
                specs = {name: places[name].spec if name in places else PartitionSpec() for name in values}
                found = jax.sharding.explicit_axes(traced, in_sharding=(specs,))(values)
            else:
                found = traced(_held(values, places))
            return _held(found, _places(found, shardings, UPDATED))

    return {"start": staged["start"], "step": staged["step"]._replace(function=step)}


def _held(values: Values, places: Mapping[str, NamedSharding]) -> Values:
    """`values` with those held to their places that have one."""
    return values | {name: jax.lax.with_sharding_constraint(values[name], place) for name, place in places.items()}


def _places(names: Iterable[str], shardings: Mapping[str, NamedSharding], prefix: str) -> dict[str, NamedSharding]:
    """The shardings of fields of a batch, and of what is called like a leaf after `prefix`."""
    leaves = {name: BATCH if name.startswith(BATCH) else name.removeprefix(prefix) for name in names}
    return {
        name: shardings[leaf] for name, leaf in leaves.items() if leaf in shardings and name.startswith((prefix, BATCH))
    }
