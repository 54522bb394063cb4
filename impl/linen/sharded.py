"""A Linen model trained on a mesh: the state placed by its boxes' names, the step compiled for those placements."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import NamedSharding

from impl.config import ModelConfig
from impl.linen.sharding import state_shardings
from impl.linen.staging import staged, state_name
from impl.linen.state import abstract_state
from impl.linen.train import train_step
from impl.linen.trainer import Trainer
from impl.sharding.axes import check_typed, larger, typed, within
from impl.sharding.mesh import abstract_mesh, device_mesh
from impl.sharding.placement import Placement, placements
from impl.sharding.plan import Plan
from impl.sharding.staging import entering, spread
from impl.sharding.zero import over_data
from impl.staging import Labels, Staged
from impl.staging import named as by_name
from impl.training.objective import Batch
from impl.training.optimizers import optimizer
from impl.training.settings import TrainSettings
from impl.trees import flat_axes

__all__ = ["ShardedTrainer"]


class ShardedTrainer(Trainer):
    """A Trainer whose state and batches lie on `plan`'s mesh, and stay where they are from step to step."""

    def __init__(
        self, config: ModelConfig, settings: TrainSettings, weights: Mapping[str, np.ndarray], plan: Plan, seed: int = 0
    ):
        super().__init__(config, settings, weights, seed)
        self.plan = plan
        self.mesh = device_mesh(plan.mesh, plan.rules, plan.axis_types)
        self._boxed = abstract_state(self.model(config), optimizer(settings), config)
        named = state_shardings(self._boxed, self.mesh, plan.rules, config)
        slots = named.opt_state
        if plan.zero:
            slots = jax.tree.map(lambda s, x: over_data(s, x.shape), slots, self.state.opt_state)
        # Into this very state: another one's functions are not equal to its own.
        shardings = self.state.replace(step=named.step, params=named.params, opt_state=slots)
        whole = NamedSharding(self.mesh, jax.sharding.PartitionSpec())
        rows = NamedSharding(self.mesh, nn.logical_to_mesh_axes(plan.rules.batch, plan.rules.logical))
        check_typed(config, plan)
        if plan.axis_types == "explicit":
            shardings, rows = jax.tree.map(larger, (shardings, rows))
        self.state = jax.device_put(self.state, shardings)
        inside = device_mesh(plan.mesh, plan.rules, "auto")
        model = self.model(config, deterministic=config.dropout_rate == 0.0, mesh=inside)
        self._step = jax.jit(
            within(plan, train_step(model, settings, config), (shardings, whole)),
            in_shardings=(shardings, rows, whole),
            out_shardings=(shardings, whole),
            donate_argnums=0,
        )
        self.batch_sharding = rows

    @classmethod
    def staged_on(cls, plan: Plan, config: ModelConfig, settings: TrainSettings, rows: int) -> dict[str, Staged]:
        """The programs of a training on `plan`'s mesh, on abstract values and an abstract mesh."""
        check_typed(config, plan)
        mesh = abstract_mesh(plan.mesh, plan.rules)
        parts = staged(partial(cls.model, mesh=mesh), cls.layout, config, settings, rows)
        batch = nn.logical_to_mesh_axes(plan.rules.batch, plan.rules.logical)
        shardings = entering(cls.placements(config, settings, mesh, plan.rules), mesh, plan, batch)
        return spread(parts, shardings, lambda: nn.logical_axis_rules(plan.rules.logical), plan)

    @contextlib.contextmanager
    def on_mesh(self) -> Iterator[None]:
        """Within it, names of activations mean something."""
        typed = jax.set_mesh(self.mesh) if self.plan.axis_types == "explicit" else contextlib.nullcontext()
        with typed, nn.logical_axis_rules(self.plan.rules.logical):
            yield

    def step(self, batch: Batch) -> dict[str, np.ndarray]:
        """As a Trainer's."""
        with self.on_mesh():
            return super().step(jax.device_put(batch, self.batch_sharding))

    def placed(self) -> dict[str, Placement]:
        """Where each leaf of the state lies now, by neutral name."""
        name = state_name(Labels(self.table))
        axes = {name(path): names for path, names in flat_axes(nn.get_partition_spec(self._boxed)).items()}
        leaves = by_name(self.state, name)
        return placements(leaves, axes, {label: leaf.sharding for label, leaf in leaves.items()})

    def typed(self) -> dict[str, bool]:
        """Whether the type of each leaf of the state says how it is sharded, by neutral name."""
        return {label: typed(leaf) for label, leaf in by_name(self.state, state_name(Labels(self.table))).items()}

    def traced(self, batch: Batch) -> Any:
        """The jaxpr of the step, with its constraints."""
        with self.on_mesh(), jax.default_matmul_precision(self.config.matmul_precision):
            return self._step.trace(self.state, batch, self.key).jaxpr

    def optimised(self, batch: Batch) -> str:
        """The text of the compiled step, with what the devices tell each other."""
        with self.on_mesh(), jax.default_matmul_precision(self.config.matmul_precision):
            return str(self._step.lower(self.state, batch, self.key).compile().as_text())
