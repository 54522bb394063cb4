"""An NNX model trained on a mesh: the state placed by its Variables' names, the step compiled for those placements."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding

from impl.config import ModelConfig
from impl.nnx.sharding import spec_of, state_shardings, without_streams
from impl.nnx.staging import state_name
from impl.nnx.state import logical_axes, state_paths
from impl.nnx.train import on_leaves, train_step
from impl.nnx.trainer import Trainer
from impl.sharding.axes import check_typed, larger, typed, within
from impl.sharding.mesh import abstract_mesh, device_mesh
from impl.sharding.placement import Placement, placements
from impl.sharding.plan import Plan
from impl.sharding.staging import entering, spread
from impl.sharding.zero import over_data
from impl.staging import Labels, Staged
from impl.training.objective import Batch
from impl.training.settings import TrainSettings

__all__ = ["ShardedTrainer"]


class ShardedTrainer(Trainer):
    """A Trainer whose state and batches lie on `plan`'s mesh, and stay where they are from step to step."""

    def __init__(
        self, config: ModelConfig, settings: TrainSettings, weights: Mapping[str, np.ndarray], plan: Plan, seed: int = 0
    ):
        super().__init__(config, settings, weights, seed)
        self.plan = plan
        self.mesh = device_mesh(plan.mesh, plan.rules, plan.axis_types)
        shardings = state_shardings(self.state, self.mesh, plan.rules, config)
        if plan.zero:
            shardings = jax.tree.map(_split_slot, shardings, self.state, is_leaf=_is_variable)
        leaves = jax.tree.leaves(shardings)
        whole = NamedSharding(self.mesh, jax.sharding.PartitionSpec())
        rows = NamedSharding(self.mesh, spec_of(plan.rules.batch, plan.rules))
        check_typed(config, plan)
        if plan.axis_types == "explicit":
            leaves, rows = jax.tree.map(larger, (leaves, rows))
        self._leaves = jax.device_put(self._leaves, leaves)
        step = on_leaves(train_step(config, settings, self.graphdef), self._structure)
        self._step = jax.jit(
            within(plan, step, (leaves, whole)),
            in_shardings=(leaves, rows),
            out_shardings=(leaves, whole),
            donate_argnums=0,
        )
        self.batch_sharding = rows

    @classmethod
    def staged_on(cls, plan: Plan, config: ModelConfig, settings: TrainSettings, rows: int) -> dict[str, Staged]:
        """The programs of a training on `plan`'s mesh, on abstract values and an abstract mesh."""
        check_typed(config, plan)
        mesh = abstract_mesh(plan.mesh, plan.rules)
        parts, batch = cls.staged(config, settings, rows), spec_of(plan.rules.batch, plan.rules)
        shardings = entering(cls.placements(config, settings, mesh, plan.rules), mesh, plan, batch)
        return spread(parts, shardings, lambda: nnx.logical_axis_rules(plan.rules.logical), plan)

    @contextlib.contextmanager
    def on_mesh(self) -> Iterator[None]:
        """Within it, names of activations mean something."""
        with jax.set_mesh(self.mesh), nnx.logical_axis_rules(self.plan.rules.logical):
            yield

    def step(self, batch: Batch) -> dict[str, np.ndarray]:
        """As a Trainer's."""
        with self.on_mesh():
            return super().step(jax.device_put(batch, self.batch_sharding))

    def placed(self) -> dict[str, Placement]:
        """Where each leaf of the state lies now, by neutral name."""
        name = state_name(Labels(self.table))
        leaves = without_streams(state_paths(self.state), name)
        axes = without_streams(logical_axes(self.state), name)
        return placements(leaves, axes, {label: leaf.sharding for label, leaf in leaves.items()})

    def typed(self) -> dict[str, bool]:
        """Whether the type of each leaf of the state says how it is sharded, by neutral name."""
        leaves = without_streams(state_paths(self.state), state_name(Labels(self.table)))
        return {label: typed(leaf) for label, leaf in leaves.items()}

    def traced(self, batch: Batch) -> Any:
        """The jaxpr of the step, with its constraints."""
        with self.on_mesh(), jax.default_matmul_precision(self.config.matmul_precision):
            return self._step.trace(self._leaves, batch).jaxpr

    def optimised(self, batch: Batch) -> str:
        """The text of the compiled step, with what the devices tell each other."""
        with self.on_mesh(), jax.default_matmul_precision(self.config.matmul_precision):
            return str(self._step.lower(self._leaves, batch).compile().as_text())


def _is_variable(node: Any) -> bool:
    return isinstance(node, nnx.Variable)


def _split_slot(sharding: nnx.Variable, value: nnx.Variable) -> nnx.Variable:
    """An optimizer slot's sharding split over the data axis; any other Variable's as it is."""
    if not isinstance(value, nnx.training.optimizer.OptState):
        return sharding
    return sharding.replace(over_data(sharding.get_value(), value.get_value().shape))
