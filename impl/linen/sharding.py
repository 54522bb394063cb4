"""The Linen train state on a mesh: names in LogicallyPartitioned boxes, resolved by flax.linen's ordered rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn
from flax.training.train_state import TrainState
from jax.sharding import AbstractMesh, Mesh

from impl.config import ModelConfig
from impl.linen.staging import state_name
from impl.linen.state import abstract_state
from impl.names import addresses
from impl.sharding.memory import hosted
from impl.sharding.placement import Placement, placements
from impl.sharding.rules import Rules
from impl.staging import Labels, named
from impl.statistics import statistic_addresses
from impl.training.optimizers import optimizer
from impl.training.settings import TrainSettings
from impl.trees import flat, flat_axes

__all__ = ["named_shardings", "state_placements", "state_shardings"]


def named_shardings(boxed: Any, mesh: Mesh | AbstractMesh, rules: Rules) -> Any:
    """A NamedSharding for every leaf of a boxed tree, in the shape of the unboxed one."""
    return nn.logical_to_mesh_sharding(nn.get_partition_spec(boxed), mesh, rules.logical)


def state_shardings(boxed: TrainState, mesh: Mesh | AbstractMesh, rules: Rules, config: ModelConfig) -> TrainState:
    """A NamedSharding for every leaf of a boxed state; parameters may be meant for the host's memory."""
    found: TrainState = named_shardings(boxed, mesh, rules)
    if not config.parameter_memory_host_offload:
        return found
    return found.replace(params=jax.tree.map(hosted, found.params))


def state_placements(
    model: Callable[..., nn.Module],
    layout: str,
    config: ModelConfig,
    settings: TrainSettings,
    mesh: Mesh | AbstractMesh,
    rules: Rules,
) -> dict[str, Placement]:
    """Neutral name -> where that leaf of a fresh train state lives. Nothing is allocated."""
    boxed = abstract_state(model(config), optimizer(settings), config)
    name = state_name(Labels({**addresses(config, layout), **statistic_addresses(config, layout)}))
    axes = {name(path): names for path, names in flat_axes(nn.get_partition_spec(boxed)).items()}
    shardings = {name(path): sharding for path, sharding in flat(state_shardings(boxed, mesh, rules, config)).items()}
    return placements(named(nn.unbox(boxed), name), axes, shardings)
