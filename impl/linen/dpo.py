"""Preference optimisation in Linen: a TrainState that keeps reference_params, and its train step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.training.train_state import TrainState

from impl.config import ModelConfig
from impl.linen.train import settled
from impl.math.accumulation import strided
from impl.math.preference import Pairs
from impl.training.auxiliary import collected
from impl.training.objective import Shares, clipped, global_norm, scaled
from impl.training.preference import (
    PreferenceBatch,
    PreferenceTerms,
    added_terms,
    pair_logps,
    pair_masks,
    pair_shares,
    preference_metrics,
    preference_objective,
    stacked,
    with_told,
    zero_terms,
)
from impl.training.settings import PreferenceSettings, TrainSettings
from impl.trees import flat

__all__ = [
    "PreferenceState",
    "logps_fn",
    "loss_fn",
    "preference_grad_fn",
    "preference_step",
    "reference_grad_fn",
    "with_reference",
]

Loss = Callable[[Any, Any, PreferenceBatch, jax.Array, Shares], tuple[jax.Array, PreferenceTerms]]
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
    """(params, reference_params, batch, key, shares) -> (what is differentiated, terms).

    The policy trains with dropout, and what its layers sow is in the terms; the reference never drops anything, sows
    nothing, and no gradient goes through it. shares: see `impl.training.preference.pair_shares`.
    """
    policy, judge = model(deterministic=False), logps_fn(model, preference)

    def loss(
        params: Any, reference_params: Any, batch: PreferenceBatch, key: jax.Array, shares: Shares
    ) -> tuple[jax.Array, PreferenceTerms]:
        rows, masks = stacked(batch), pair_masks(batch, preference)
        logits, sown = policy.apply(params, *rows, rngs={"dropout": key}, mutable=["intermediates"])
        ours = pair_logps(logits, batch, masks)
        theirs = jax.lax.stop_gradient(judge(reference_params, batch))
        value, terms = preference_objective(ours, theirs, masks, settings, preference)
        return with_told(value, terms, collected(flat(sown.get("intermediates", {})), policy.config), shares)

    return loss


def preference_grad_fn(
    model: Callable[..., nn.Module], settings: TrainSettings, preference: PreferenceSettings
) -> Grads:
    """(params, reference_params, batch, key) -> (gradients like params, terms), over all microbatches."""
    differentiate = jax.grad(loss_fn(model, settings, preference), has_aux=True)
    if settings.gradient_accumulation_steps > 1:
        return _accumulated(differentiate, model(deterministic=False).config, settings, preference)

    def grads(
        params: Any, reference_params: Any, batch: PreferenceBatch, key: jax.Array
    ) -> tuple[Any, PreferenceTerms]:
        return differentiate(params, reference_params, batch, key, pair_shares(batch, settings, preference))

    return grads


def reference_grad_fn(
    model: Callable[..., nn.Module], settings: TrainSettings, preference: PreferenceSettings
) -> Callable[[Any, Any, PreferenceBatch, jax.Array], Any]:
    """The same by reference_params, the batch taken whole: zeros, or something leaks into what must stay fixed."""
    differentiate = jax.grad(loss_fn(model, settings, preference), argnums=1, has_aux=True)

    def grads(params: Any, reference_params: Any, batch: PreferenceBatch, key: jax.Array) -> Any:
        return differentiate(params, reference_params, batch, key, pair_shares(batch, settings, preference))[0]

    return grads


def _accumulated(
    differentiate: Callable[..., Any], config: ModelConfig, settings: TrainSettings, preference: PreferenceSettings
) -> Grads:
    """Gradients summed over strided microbatches, one dropout key each, then divided by the pairs that count."""
    count = settings.gradient_accumulation_steps

    def grads(
        params: Any, reference_params: Any, batch: PreferenceBatch, key: jax.Array
    ) -> tuple[Any, PreferenceTerms]:
        shares = pair_shares(batch, settings, preference)

        def step(carry: tuple[Any, PreferenceTerms], micro: tuple[jax.Array, PreferenceBatch]) -> tuple[Any, None]:
            index, part = micro
            grads, terms = differentiate(params, reference_params, part, jax.random.fold_in(key, index), shares)
            return (jax.tree.map(jnp.add, carry[0], grads), added_terms(carry[1], terms)), None

        start = (jax.tree.map(jnp.zeros_like, params), zero_terms(config))
        parts = PreferenceBatch(*[strided(field, count) for field in batch])
        (total, terms), _ = jax.lax.scan(step, start, (jnp.arange(count), parts))
        return scaled(total, terms.pairs), terms

    return grads


def preference_step(
    gradients: Grads, settings: TrainSettings, config: ModelConfig
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
        state = state.replace(params=settled(state.params, terms.aux, config))
        norms = {"raw_grad_norm": raw_norm, "grad_norm": global_norm(grads), "param_norm": global_norm(state.params)}
        return state, preference_metrics(terms, norms, settings)

    return step
