"""An NNX model in training: weights in by neutral name, steps, and everything observable out by neutral name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import AbstractMesh, Mesh

from impl.config import ModelConfig
from impl.names import addresses, gather, scatter
from impl.nnx.fp8 import Overwritten
from impl.nnx.sharding import state_placements
from impl.nnx.staging import staged
from impl.nnx.state import abstract_state, called, filled, init_state_fn, logical_axes, state_paths
from impl.nnx.streams import streams_after
from impl.nnx.train import grads_of, on_leaves, train_step
from impl.nnx.transformer import Transformer
from impl.sharding.placement import Placement
from impl.sharding.rules import Rules
from impl.staging import Staged
from impl.statistics import statistic_addresses
from impl.training.checks import check_batch
from impl.training.memory import memory
from impl.training.objective import Batch, Terms
from impl.training.optimizers import optimizer
from impl.training.settings import TrainSettings
from impl.trees import describe, flat, nested, overlay, slots

__all__ = ["Trainer"]


class Trainer:
    """Holds a split TrainStateNNX and its compiled step. Arrays that leave are NumPy; names are neutral.

    build: makes the NNX module to train. layout: how it spells unscanned layers (`impl.names.addresses`).
    check: (batch, config, settings), raises BatchError for a batch that does not fit; it says what a batch is.
    """

    build: Callable[..., nnx.Module] = Transformer
    check: Callable[..., None] = staticmethod(check_batch)
    layout = "layers/{i}"

    def __init__(self, config: ModelConfig, settings: TrainSettings, weights: Mapping[str, np.ndarray], seed: int = 0):
        self.config, self.settings = config, settings
        self.table, self._remembered = addresses(config, self.layout), statistic_addresses(config, self.layout)
        self._init = init = init_state_fn(self.build, optimizer(settings), config, seed)
        self.graphdef, params, _ = nnx.split(nnx.eval_shape(init), nnx.Param, ...)
        # Compiled without its parameters: what draws them is dead code, so only keys and slots are made.
        rest = jax.jit(lambda: nnx.state(init(), nnx.Not(nnx.Param)))()
        state = nnx.merge_state(filled(params, scatter(weights, self.table), ("model",)), rest)
        self._leaves, self._structure = jax.tree.flatten(state)
        step = on_leaves(train_step(config, settings, self.graphdef), self._structure)
        self._step = jax.jit(step, donate_argnums=0)
        self._grads, self._apply = jax.jit(self._grads_of_state), jax.jit(self._logits_of_state)

    @classmethod
    def staged(cls, config: ModelConfig, settings: TrainSettings, rows: int) -> dict[str, Staged]:
        """The side's programs on abstract values, for a batch of `rows` rows."""
        return staged(cls.build, cls.layout, config, settings, rows)

    @classmethod
    def placements(
        cls, config: ModelConfig, settings: TrainSettings, mesh: Mesh | AbstractMesh, rules: Rules
    ) -> dict[str, Placement]:
        """Where each leaf of a fresh train state lives on `mesh`, by neutral name; stacked layers are one leaf."""
        return state_placements(cls.build, cls.layout, config, settings, mesh, rules)

    @property
    def state(self) -> nnx.State:
        """The state as nnx sees it; between steps it is kept as a list of arrays."""
        return jax.tree.unflatten(self._structure, self._leaves)

    @property
    def steps_done(self) -> int:
        """Updates made so far."""
        return int(self.state["optimizer"]["step"][...])

    def step(self, batch: Any) -> dict[str, np.ndarray]:
        """One update in place; the metrics of the step. Raises BatchError for a batch that does not fit."""
        self.check(batch, self.config, self.settings)
        with jax.default_matmul_precision(self.config.matmul_precision):
            self._leaves, metrics = self._step(self._leaves, batch)
        return {name: np.asarray(value) for name, value in metrics.items()}

    def stepper(self, batch: Batch) -> tuple[Callable[[], Any], dict[str, int]]:
        """One step without checks or transfers, to be timed, and the compiled step's sizes in bytes."""
        batch = jax.device_put(batch)
        with jax.default_matmul_precision(self.config.matmul_precision):
            compiled = self._step.lower(self._leaves, batch).compile()

        def once() -> Any:
            with jax.default_matmul_precision(self.config.matmul_precision):
                self._leaves, metrics = self._step(self._leaves, batch)
            return metrics

        return once, memory(compiled)

    def gradients(self, batch: Any) -> tuple[dict[str, np.ndarray], Any]:
        """Gradients of this step's loss by parameter, unclipped, and the loss terms. The state stays as it is.

        Beside them, by its own name, the next value of each statistic.
        """
        self.check(batch, self.config, self.settings)
        with jax.default_matmul_precision(self.config.matmul_precision):
            grads, statistics, terms = self._grads(self.state, batch)
        leaves = {**state_paths(grads), **state_paths(statistics)}
        return gather(leaves, {**self.table, **self._remembered}), jax.tree.map(np.asarray, terms)

    def logits(self, batch: Batch) -> np.ndarray:
        """Logits [B, T, V] with dropout off."""
        self.check(batch, self.config, self.settings)
        with jax.default_matmul_precision(self.config.matmul_precision):
            return np.asarray(self._apply(self.state, batch))

    def _grads_of_state(self, state: nnx.State, batch: Batch) -> tuple[nnx.State, nnx.State, Terms]:
        model = nnx.merge(self.graphdef, state, copy=True).model
        model.set_attributes(deterministic=self.config.dropout_rate == 0.0, raise_if_not_found=False)
        grads, terms = grads_of(model, batch, self.settings)
        return grads, nnx.state(model, Overwritten), terms

    def _logits_of_state(self, state: nnx.State, batch: Batch) -> jax.Array:
        model = nnx.merge(self.graphdef, state, copy=True).model
        model.eval()
        return called(model, batch)[0]

    def weights(self) -> dict[str, np.ndarray]:
        """Parameters by neutral name."""
        return gather(state_paths(nnx.filter_state(self.state, nnx.Param)["model"]), self.table)

    def statistics(self) -> dict[str, np.ndarray]:
        """Statistics of quantised products by neutral name."""
        held = nnx.filter_state(self.state["model"], Overwritten)
        return gather(state_paths(held), self._remembered)

    def slots(self) -> dict[str, np.ndarray]:
        """Optimizer slots by neutral name, and the step as int64 (Linen counts in int32, NNX in uint32)."""
        leaves = state_paths(self.state["optimizer"])
        step = leaves.pop(("step",))
        named = slots({path[1:]: leaf for path, leaf in leaves.items()}, self.table)
        return {**named, "step": np.asarray(step, np.int64)}

    def structure(self) -> dict[str, str]:
        """Shape, dtype and logical axes of each parameter of a freshly initialised state, layers taken apart."""
        state = nnx.state(abstract_state(self.build, optimizer(self.settings), self.config).model, nnx.Param)
        leaves, axes = state_paths(state), logical_axes(state)
        return {
            name: describe(leaves[address.path], axes[address.path], address.axis)
            for name, address in self.table.items()
        }

    def tree(self) -> dict[str, Any]:
        """What is saved: model (parameters, rng streams) and optimizer, nested dicts of arrays; keys as their data."""
        return nested({path: np.asarray(leaf) for path, leaf in flat(_raw(self.state)).items()})

    def restore(self, tree: Mapping[str, Any]) -> None:
        """Take up a saved `tree`. The tree must have exactly this state's leaves, shapes and dtypes."""
        raw = overlay(_raw(self.state), tree)
        typed = jax.tree.map(_like, nnx.to_pure_dict(self.state), raw)
        state = self.state
        nnx.replace_by_pure_dict(state, typed)
        self._leaves = jax.tree.leaves(state)

    def adopt(self, tree: Mapping[str, Any]) -> None:
        """Take up a `tree` that was the other side's, which saves no random streams: they get this seed's at its step.

        A tree that has streams is restored as it is.
        """
        found = flat(tree)
        passes = int(tree["optimizer"]["step"]) * self.settings.gradient_accumulation_steps
        streams = {"model": _raw(streams_after(self._init, self.config, passes))} if self.config.dropout_rate else {}
        made = flat(streams)
        self.restore(nested({**made, **found}) if made.keys().isdisjoint(found) else tree)


def _raw(state: nnx.State) -> dict[str, Any]:
    """The state as nested dicts, typed keys as their uint32 data: what a checkpoint can hold on every version."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, nnx.to_pure_dict(state))


def _like(old: Any, raw: jax.Array) -> jax.Array:
    return jax.random.wrap_key_data(raw, impl=jax.random.key_impl(old)) if _is_key(old) else raw


def _is_key(leaf: Any) -> bool:
    return jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
