"""The NNX train state on a mesh: names in Variable metadata, resolved by flax.nnx's table of rules.

That table holds one assignment for each name: of two rules for a name it keeps the last, it sees no conflict between
names, and a name without a rule is taken for a mesh axis. So every Variable is resolved under the assignment that an
ordered list of rules gives its own names (`impl.sharding.rules.assigned`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from impl.config import ModelConfig
from impl.names import addresses
from impl.nnx.staging import STREAMS, state_name
from impl.nnx.state import abstract_state, logical_axes, state_paths
from impl.sharding.memory import hosted
from impl.sharding.placement import Placement, placements
from impl.sharding.rules import Rules, assigned
from impl.staging import Labels
from impl.statistics import statistic_addresses
from impl.training.optimizers import optimizer
from impl.training.settings import TrainSettings

__all__ = ["named_shardings", "spec_of", "state_placements", "state_shardings", "without_streams"]


Path = tuple[str, ...]


def named_shardings(state: nnx.State, mesh: Mesh | AbstractMesh, rules: Rules) -> nnx.State:
    """`state` with a NamedSharding in every Variable instead of its value."""

    def sharded(variable: nnx.Variable) -> nnx.Variable:
        names = variable.get_metadata().get("out_sharding") or ()
        with nnx.logical_axis_rules(tuple(assigned(names, rules.logical).items())):
            spec = nnx.get_partition_spec(variable).get_value()
        return variable.replace(NamedSharding(mesh, spec))

    return jax.tree.map(sharded, state, is_leaf=_is_variable)


def state_shardings(state: nnx.State, mesh: Mesh | AbstractMesh, rules: Rules, config: ModelConfig) -> nnx.State:
    """A train state's `named_shardings`; parameters may be meant for the host's memory."""
    found = named_shardings(state, mesh, rules)
    return jax.tree.map(_hosted, found, is_leaf=_is_variable) if config.parameter_memory_host_offload else found


def _is_variable(node: Any) -> bool:
    return isinstance(node, nnx.Variable)


def _hosted(variable: nnx.Variable) -> nnx.Variable:
    """A parameter's sharding in the host's memory; any other Variable's as it is."""
    return variable.replace(hosted(variable.get_value())) if isinstance(variable, nnx.Param) else variable


def spec_of(names: tuple[str, ...], rules: Rules) -> PartitionSpec:
    """The partition spec of one array that is no Variable."""
    return PartitionSpec(*(assigned(names, rules.logical)[name] for name in names))


def without_streams(values: Mapping[Path, Any], name: Callable[[Path], str]) -> dict[str, Any]:
    """`values` of a state by the names that `name` gives their paths, streams of random keys left out."""
    found = {name(path): value for path, value in values.items()}
    return {label: value for label, value in found.items() if not label.startswith(STREAMS)}


def state_placements(
    build: Callable[..., nnx.Module],
    layout: str,
    config: ModelConfig,
    settings: TrainSettings,
    mesh: Mesh | AbstractMesh,
    rules: Rules,
) -> dict[str, Placement]:
    """Neutral name -> where that leaf of a fresh train state lives. Nothing is allocated.

    Streams of random keys, which only this side keeps, are left out.
    """
    state = nnx.state(abstract_state(build, optimizer(settings), config))
    name = state_name(Labels({**addresses(config, layout), **statistic_addresses(config, layout)}))

    shardings = without_streams(state_paths(state_shardings(state, mesh, rules, config)), name)
    return placements(without_streams(state_paths(state), name), without_streams(logical_axes(state), name), shardings)
