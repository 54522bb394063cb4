"""A Linen model that learns from pairs: a Trainer whose state keeps reference_params."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from impl.config import ModelConfig
from impl.linen.dpo import logps_fn, preference_grad_fn, preference_step, reference_grad_fn, with_reference
from impl.linen.dpo_staging import staged_preference
from impl.linen.trainer import Trainer
from impl.names import gather, scatter
from impl.staging import Staged
from impl.training.preference import PairOutcomes, PreferenceBatch, PreferenceTerms, check_pairs, outcomes
from impl.training.settings import PreferenceSettings, TrainSettings
from impl.trees import flat, nested, overlay

__all__ = ["PreferenceTrainer"]


class PreferenceTrainer(Trainer):
    """Holds a PreferenceState and its compiled step. The reference starts as a copy of the weights.

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
        self.state = with_reference(self.state, jax.tree.map(jax.numpy.copy, self.state.params))
        model = partial(self._module, config)
        gradients = preference_grad_fn(model, settings, preference)
        self._step = jax.jit(preference_step(gradients, settings, config), donate_argnums=0)
        self._logps = jax.jit(logps_fn(model, preference))
        self._outcomes = jax.jit(partial(outcomes, preference=preference))
        self._grads, self._leak = jax.jit(gradients), jax.jit(reference_grad_fn(model, settings, preference))

    @classmethod
    def staged_preference(
        cls, config: ModelConfig, settings: TrainSettings, preference: PreferenceSettings, rows: int
    ) -> dict[str, Staged]:
        """The programs on abstract values, for a batch of `rows` pairs."""
        return staged_preference(partial(cls._module, config), cls.layout, (config, settings, preference), rows)

    @classmethod
    def _module(cls, config: ModelConfig, *, deterministic: bool) -> nn.Module:
        return cls.model(config, deterministic=deterministic or config.dropout_rate == 0.0)

    def gradients(self, batch: PreferenceBatch) -> tuple[dict[str, np.ndarray], PreferenceTerms]:
        """Gradients of this step's loss by parameter, unclipped, and the loss terms. The state stays as it is."""
        grads, terms = self._derived(self._grads, batch)
        return gather(flat(grads["params"]), self.table), jax.tree.map(np.asarray, terms)

    def evaluate(self, batch: PreferenceBatch) -> PairOutcomes:
        """What each pair comes to with dropout off, on a policy and a reference that one compiled program runs.

        In a train step the two are compiled apart, and equal weights may differ in roundings; here they may not.
        """
        self.check(batch, self.config, self.settings)
        with jax.default_matmul_precision(self.config.matmul_precision):
            ours, theirs = (self._logps(held, batch) for held in (self.state.params, self.state.reference_params))
        return PairOutcomes(*map(np.asarray, self._outcomes(ours, theirs)))

    def reference_gradients(self, batch: PreferenceBatch) -> dict[str, np.ndarray]:
        """Gradients of the loss by parameter of the reference, the batch taken whole."""
        return gather(flat(self._derived(self._leak, batch)["params"]), self.table)

    def _derived(self, function: Any, batch: PreferenceBatch) -> Any:
        self.check(batch, self.config, self.settings)
        with jax.default_matmul_precision(self.config.matmul_precision):
            key = jax.random.fold_in(self.key, self.state.step)
            return function(self.state.params, self.state.reference_params, batch, key)

    def reference(self) -> dict[str, np.ndarray]:
        """The reference's parameters by neutral name."""
        return gather(flat(self.state.reference_params["params"]), self.table)

    def refer(self, weights: Mapping[str, np.ndarray]) -> None:
        """Let `weights` be the reference. They must be exactly the model's."""
        fresh = overlay(self.state.reference_params, {"params": nested(scatter(weights, self.table))})
        self.state = self.state.replace(reference_params=fresh)

    def saved_weights(self, tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The policy's parameters in a saved `tree`, by neutral name."""
        return gather(flat(tree["params"]["params"]), self.table)
