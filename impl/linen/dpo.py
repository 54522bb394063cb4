"""Preference optimisation in Linen: a TrainState that keeps reference_params, and its train step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.training.train_state import TrainState

from impl.math.accumulation import strided
from impl.math.preference import Pairs
from impl.training.objective import clipped, global_norm, scaled
from impl.training.preference import (
    PreferenceBatch,
    PreferenceTerms,
    pair_logps,
    pair_masks,
    preference_metrics,
    preference_objective,
    stacked,
    zero_terms,
)
from impl.training.settings import PreferenceSettings, TrainSettings

__all__ = ["PreferenceState", "logps_fn", "loss_fn", "preference_grad_fn", "preference_step", "with_reference"]

Loss = Callable[[Any, Any, PreferenceBatch, jax.Array], tuple[jax.Array, PreferenceTerms]]
Grads = Callable[[Any, Any, PreferenceBatch, jax.Array], tuple[Any, PreferenceTerms]]


class PreferenceState(TrainState):
    """A TrainState and reference_params, {"params": ...} of the same model.

    They stand beside params, not among them: what is differentiated and what the optimizer sees is params alone.
    """

    reference_params: Any


def with_reference(state: TrainState, reference_params: Any) -> PreferenceState:
    """`state` with reference_params beside it."""
    fields = {name: getattr(state, name) for name in ("step", "apply_fn", "params", "tx", "opt_state")}
    return PreferenceState(**fields, reference_params=reference_params)


def logps_fn(model: Callable[..., nn.Module], preference: PreferenceSettings) -> Callable[..., Pairs]:
    """(params, batch) -> log-probabilities of the completions, with dropout off. model: deterministic -> module."""
    quiet = model(deterministic=True)

    def logps(params: Any, batch: PreferenceBatch) -> Pairs:
        return pair_logps(quiet.apply(params, *stacked(batch)), batch, pair_masks(batch, preference))

    return logps


def loss_fn(model: Callable[..., nn.Module], settings: TrainSettings, preference: PreferenceSettings) -> Loss:
    """(params, reference_params, batch, key) -> (what is differentiated, terms).

    The policy trains with dropout; the reference never drops anything, and no gradient goes through it.
    """
    policy, judge = model(deterministic=False), logps_fn(model, preference)

    def loss(
        params: Any, reference_params: Any, batch: PreferenceBatch, key: jax.Array
    ) -> tuple[jax.Array, PreferenceTerms]:
        rows, masks = stacked(batch), pair_masks(batch, preference)
        ours = pair_logps(policy.apply(params, *rows, rngs={"dropout": key}), batch, masks)
        theirs = jax.lax.stop_gradient(judge(reference_params, batch))
        return preference_objective(ours, theirs, masks, settings, preference)

    return loss


def preference_grad_fn(loss: Loss, settings: TrainSettings) -> Grads:
    """(params, reference_params, batch, key) -> (gradients like params, terms), over all microbatches."""
    differentiate = jax.grad(loss, has_aux=True)
    return differentiate if settings.gradient_accumulation_steps == 1 else _accumulated(differentiate, settings)


def _accumulated(differentiate: Grads, settings: TrainSettings) -> Grads:
    """Gradients summed over strided microbatches, one dropout key each, then divided by the pairs that count."""
    count = settings.gradient_accumulation_steps

    def grads(
        params: Any, reference_params: Any, batch: PreferenceBatch, key: jax.Array
    ) -> tuple[Any, PreferenceTerms]:
        def step(carry: Any, micro: tuple[jax.Array, PreferenceBatch]) -> tuple[Any, None]:
            index, part = micro
            found = differentiate(params, reference_params, part, jax.random.fold_in(key, index))
            return jax.tree.map(jnp.add, carry, found), None

        start = (jax.tree.map(jnp.zeros_like, params), zero_terms())
        parts = PreferenceBatch(*[strided(field, count) for field in batch])
        (total, terms), _ = jax.lax.scan(step, start, (jnp.arange(count), parts))
        return scaled(total, terms.pairs), terms

    return grads


def preference_step(
    gradients: Grads, settings: TrainSettings
) -> Callable[[PreferenceState, PreferenceBatch, jax.Array], tuple[PreferenceState, dict[str, jax.Array]]]:
    """(state, batch, key) -> (state after one update, metrics). The dropout key is `key` folded by the step."""

    def step(
        state: PreferenceState, batch: PreferenceBatch, key: jax.Array
    ) -> tuple[PreferenceState, dict[str, jax.Array]]:
        folded = jax.random.fold_in(key, state.step)
        grads, terms = gradients(state.params, state.reference_params, batch, folded)
        raw_norm = global_norm(grads)
        grads = clipped(grads, raw_norm, settings)
        state = state.apply_gradients(grads=grads)
        norms = {"raw_grad_norm": raw_norm, "grad_norm": global_norm(grads), "param_norm": global_norm(state.params)}
        return state, preference_metrics(terms, norms)

    return step
