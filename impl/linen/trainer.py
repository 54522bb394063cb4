"""A Linen model in training: weights in by neutral name, steps, and everything observable out by neutral name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import AbstractMesh, Mesh

from impl.config import ModelConfig
from impl.linen.sharding import state_placements
from impl.linen.staging import staged
from impl.linen.state import abstract_state, first_statistics, state_with
from impl.linen.train import grad_fn, train_step
from impl.linen.transformer import Transformer
from impl.names import addresses, gather, scatter
from impl.sharding.placement import Placement
from impl.sharding.rules import Rules
from impl.staging import Staged
from impl.statistics import COLLECTION, statistic_addresses
from impl.training.checks import check_batch
from impl.training.memory import memory
from impl.training.objective import Batch
from impl.training.optimizers import optimizer
from impl.training.settings import TrainSettings
from impl.trees import describe, flat, flat_axes, nested, overlay, plain, slots

__all__ = ["Trainer"]


class Trainer:
    """Holds a TrainState and its compiled step. Arrays that leave are NumPy; names are neutral.

    model: builds the Linen module to train. layout: how it spells unscanned layers (`impl.names.addresses`).
    check: (batch, config, settings), raises BatchError for a batch that does not fit; it says what a batch is.
    """

    model: Callable[..., nn.Module] = Transformer
    check: Callable[..., None] = staticmethod(check_batch)
    layout = "layers_{i}"

    def __init__(self, config: ModelConfig, settings: TrainSettings, weights: Mapping[str, np.ndarray], seed: int = 0):
        self.config, self.settings = config, settings
        self.table, self._remembered = addresses(config, self.layout), statistic_addresses(config, self.layout)
        leaves = nested(scatter(weights, self.table))
        params = overlay(nn.unbox(self._abstract_params()), leaves)
        variables = {"params": params, **first_statistics(self.model(config), config)}
        self.state = state_with(self.model(config), optimizer(settings), variables)
        self.key = jax.random.key(seed)
        self._step = jax.jit(train_step(self._training_model(), settings, config), donate_argnums=0)
        self._grads = jax.jit(grad_fn(self._training_model(), settings, config))
        self._apply = jax.jit(self.model(config).apply)

    @classmethod
    def staged(cls, config: ModelConfig, settings: TrainSettings, rows: int) -> dict[str, Staged]:
        """The side's programs on abstract values, for a batch of `rows` rows."""
        return staged(cls.model, cls.layout, config, settings, rows)

    @classmethod
    def placements(
        cls, config: ModelConfig, settings: TrainSettings, mesh: Mesh | AbstractMesh, rules: Rules
    ) -> dict[str, Placement]:
        """Where each leaf of a fresh train state lives on `mesh`, by neutral name; stacked layers are one leaf."""
        return state_placements(cls.model, cls.layout, config, settings, mesh, rules)

    def _abstract_params(self) -> Any:
        return abstract_state(self.model(self.config), optimizer(self.settings), self.config).params["params"]

    def _training_model(self) -> nn.Module:
        return self.model(self.config, deterministic=self.config.dropout_rate == 0.0)

    @property
    def steps_done(self) -> int:
        """Updates made so far."""
        return int(self.state.step)

    def step(self, batch: Any) -> dict[str, np.ndarray]:
        """One update in place; the metrics of the step. Raises BatchError for a batch that does not fit."""
        self.check(batch, self.config, self.settings)
        with jax.default_matmul_precision(self.config.matmul_precision):
            self.state, metrics = self._step(self.state, batch, self.key)
        return {name: np.asarray(value) for name, value in metrics.items()}

    def stepper(self, batch: Batch) -> tuple[Callable[[], Any], dict[str, int]]:
        """One step without checks or transfers, to be timed, and the compiled step's sizes in bytes."""
        batch = jax.device_put(batch)
        with jax.default_matmul_precision(self.config.matmul_precision):
            compiled = self._step.lower(self.state, batch, self.key).compile()

        def once() -> Any:
            with jax.default_matmul_precision(self.config.matmul_precision):
                self.state, metrics = self._step(self.state, batch, self.key)
            return metrics

        return once, memory(compiled)

    def gradients(self, batch: Any) -> tuple[dict[str, np.ndarray], Any]:
        """Gradients of this step's loss by parameter, unclipped, and the loss terms. The state stays as it is.

        Beside them, by its own name, the next value of each statistic.
        """
        self.check(batch, self.config, self.settings)
        with jax.default_matmul_precision(self.config.matmul_precision):
            key = jax.random.fold_in(self.key, self.state.step)
            grads, terms = self._grads(self.state.params, batch, key)
        leaves = {**flat(grads["params"]), **flat(grads.get(COLLECTION, {}))}
        return gather(leaves, {**self.table, **self._remembered}), jax.tree.map(np.asarray, terms)

    def logits(self, batch: Batch) -> np.ndarray:
        """Logits [B, T, V] with dropout off."""
        self.check(batch, self.config, self.settings)
        with jax.default_matmul_precision(self.config.matmul_precision):
            return np.asarray(self._apply(self.state.params, batch.tokens, batch.positions, batch.segment_ids))

    def weights(self) -> dict[str, np.ndarray]:
        """Parameters by neutral name."""
        return gather(flat(self.state.params["params"]), self.table)

    def statistics(self) -> dict[str, np.ndarray]:
        """Statistics of quantised products by neutral name."""
        return gather(flat(self.state.params.get(COLLECTION, {})), self._remembered)

    def slots(self) -> dict[str, np.ndarray]:
        """Optimizer slots by neutral name, and the step as int64 (Linen counts in int32, NNX in uint32)."""
        return {**slots(flat(self.state.opt_state), self.table), "step": np.asarray(self.state.step, np.int64)}

    def structure(self) -> dict[str, str]:
        """Shape, dtype and logical axes of each parameter of a freshly initialised state, layers taken apart."""
        boxed = self._abstract_params()
        leaves, axes = flat(nn.unbox(boxed)), flat_axes(nn.get_partition_spec(boxed))
        return {
            name: describe(leaves[address.path], axes[address.path], address.axis)
            for name, address in self.table.items()
        }

    def tree(self) -> dict[str, Any]:
        """What is saved: params, opt_state and step, as Linen's checkpoints hold them."""
        saved = {"params": self.state.params, "opt_state": plain(self.state.opt_state), "step": self.state.step}
        return jax.tree.map(np.asarray, saved)

    def restore(self, tree: Mapping[str, Any]) -> None:
        """Take up a saved `tree`. The tree must have exactly this state's leaves, shapes and dtypes."""
        target = {"params": self.state.params, "opt_state": self.state.opt_state, "step": self.state.step}
        self.state = self.state.replace(**overlay(target, tree))

    def adopt(self, tree: Mapping[str, Any]) -> None:
        """Take up a `tree` that was the other side's. Keys come from the seed and the step: it needs no more of it."""
        self.restore(tree)
