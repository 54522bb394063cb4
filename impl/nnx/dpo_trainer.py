"""An NNX model that learns from pairs: a Trainer whose state holds a reference_model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx

from impl.config import ModelConfig
from impl.math.preference import Pairs
from impl.names import gather, scatter
from impl.nnx.dpo import (
    PreferenceStateNNX,
    logps_of,
    preference_grads,
    preference_step,
    reference_grads,
    with_reference,
)
from impl.nnx.dpo_staging import staged_preference
from impl.nnx.state import filled, state_paths
from impl.nnx.train import on_leaves
from impl.nnx.trainer import Trainer
from impl.staging import Staged
from impl.training.preference import PairOutcomes, PreferenceBatch, PreferenceTerms, check_pairs, outcomes
from impl.training.settings import PreferenceSettings, TrainSettings
from impl.trees import flat

__all__ = ["PreferenceTrainer"]

REFERENCE = "reference_model"


class PreferenceTrainer(Trainer):
    """Holds a split PreferenceStateNNX and its compiled step. The reference starts as a copy of the weights.

    A checkpoint holds the policy and its optimizer, as any Trainer's: the reference is the policy of step 0's.
    """

    check = staticmethod(check_pairs)

    def __init__(
        self,
        config: ModelConfig,
        settings: TrainSettings,
        preference: PreferenceSettings,
        weights: Mapping[str, np.ndarray],
        seed: int = 0,
    ):
        super().__init__(config, settings, weights, seed)
        self.preference = preference
        held = with_reference(nnx.merge(self.graphdef, self.state))
        self.graphdef, state = nnx.split(held)
        self._quiet = nnx.graphdef(held.reference_model)
        self._leaves, self._structure = jax.tree.flatten(state)
        step = on_leaves(preference_step(config, settings, preference, self.graphdef), self._structure)
        self._step = jax.jit(step, donate_argnums=0)
        self._logps = jax.jit(self._logps_of_state)
        self._outcomes = jax.jit(partial(outcomes, preference=preference))
        self._grads, self._leak = jax.jit(self._grads_of_pairs), jax.jit(self._grads_of_reference)

    @classmethod
    def staged_preference(
        cls, config: ModelConfig, settings: TrainSettings, preference: PreferenceSettings, rows: int
    ) -> dict[str, Staged]:
        """The programs on abstract values, for a batch of `rows` pairs."""
        return staged_preference(cls.build, cls.layout, (config, settings, preference), rows)

    def gradients(self, batch: PreferenceBatch) -> tuple[dict[str, np.ndarray], PreferenceTerms]:
        """Gradients of this step's loss by parameter, unclipped, and the loss terms. The state stays as it is."""
        grads, terms = self._derived(self._grads, batch)
        return gather(state_paths(grads), self.table), jax.tree.map(np.asarray, terms)

    def evaluate(self, batch: PreferenceBatch) -> PairOutcomes:
        """What each pair comes to with dropout off, on a policy and a reference that one compiled program runs.

        In a train step the two are compiled apart, and equal weights may differ in roundings; here they may not.
        """
        self.check(batch, self.config, self.settings)
        state = self.state
        with jax.default_matmul_precision(self.config.matmul_precision):
            ours, theirs = (self._logps(state[part], batch) for part in ("model", REFERENCE))
        return PairOutcomes(*map(np.asarray, self._outcomes(ours, theirs)))

    def reference_gradients(self, batch: PreferenceBatch) -> dict[str, np.ndarray]:
        """Gradients of the loss by parameter of the reference, the batch taken whole."""
        return gather(state_paths(self._derived(self._leak, batch)), self.table)

    def _derived(self, function: Any, batch: PreferenceBatch) -> Any:
        self.check(batch, self.config, self.settings)
        with jax.default_matmul_precision(self.config.matmul_precision):
            return function(self.state, batch)

    def _grads_of_pairs(self, state: nnx.State, batch: PreferenceBatch) -> tuple[nnx.State, PreferenceTerms]:
        return preference_grads(self._merged(state), batch, self.settings, self.preference)

    def _grads_of_reference(self, state: nnx.State, batch: PreferenceBatch) -> nnx.State:
        return reference_grads(self._merged(state), batch, self.settings, self.preference)

    def _logps_of_state(self, held: nnx.State, batch: PreferenceBatch) -> Pairs:
        return logps_of(nnx.merge(self._quiet, held, copy=True), batch, self.preference)

    def _merged(self, state: nnx.State) -> PreferenceStateNNX:
        held = nnx.merge(self.graphdef, state, copy=True)
        held.model.set_attributes(deterministic=self.config.dropout_rate == 0.0, raise_if_not_found=False)
        return held

    def reference(self) -> dict[str, np.ndarray]:
        """The reference's parameters by neutral name."""
        return gather(state_paths(nnx.filter_state(self.state, nnx.Param)[REFERENCE]), self.table)

    def refer(self, weights: Mapping[str, np.ndarray]) -> None:
        """Let `weights` be the reference. They must be exactly the model's."""
        state = self.state
        fresh = filled(nnx.filter_state(state, nnx.Param)[REFERENCE], scatter(weights, self.table), ())
        self._leaves = jax.tree.leaves(nnx.merge_state(state, nnx.State({REFERENCE: fresh})))

    def saved_weights(self, tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The policy's parameters in a saved `tree`, by neutral name."""
        known = {address.path for address in self.table.values()}
        leaves = {path: np.asarray(leaf) for path, leaf in flat(tree["model"]).items()}
        return gather({path: leaf for path, leaf in leaves.items() if path in known}, self.table)

    def tree(self) -> dict[str, Any]:
        """What is saved: model (parameters, rng streams) and optimizer, as any Trainer's."""
        return {name: part for name, part in super().tree().items() if name != REFERENCE}

    def restore(self, tree: Mapping[str, Any]) -> None:
        """Take up a saved `tree`. The reference stays what it is."""
        super().restore({**tree, REFERENCE: super().tree()[REFERENCE]})
