"""Preference optimisation in NNX: a train state that holds a reference_model, and its train step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from impl.config import ModelConfig
from impl.math.accumulation import strided
from impl.math.preference import Pairs
from impl.nnx.state import TrainStateNNX, captured
from impl.nnx.train import settle
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

__all__ = [
    "PreferenceStateNNX",
    "logps_of",
    "preference_grads",
    "preference_step",
    "reference_grads",
    "told_logps",
    "with_reference",
]

Aux = tuple[PreferenceTerms, nnx.State]
Grads = tuple[nnx.State, PreferenceTerms]
Parts = tuple[nnx.State, nnx.State, nnx.State]
Loss = Callable[[nnx.State, nnx.State, nnx.State, PreferenceBatch, Shares], tuple[jax.Array, Aux]]


class PreferenceStateNNX(TrainStateNNX):
    """model, optimizer and reference_model, which shares no Variable with the model and is never updated."""

    def __init__(self, model: nnx.Module, optimizer: nnx.Optimizer | None, reference_model: nnx.Module):
        super().__init__(model, optimizer)
        self.reference_model = reference_model


def with_reference(state: TrainStateNNX) -> PreferenceStateNNX:
    """`state` and a copy of its model, in evaluation mode, as the reference.

    Arrays are copied too: a step that donates its state may not be handed one array twice.
    """
    graphdef, held = nnx.split(state.model)
    reference = nnx.merge(graphdef, jax.tree.map(jnp.copy, held))
    reference.eval()
    return PreferenceStateNNX(state.model, state.optimizer, reference)


def logps_of(model: nnx.Module, batch: PreferenceBatch, preference: PreferenceSettings) -> Pairs:
    """Log-probabilities of the completions, with dropout as the model is set."""
    return told_logps(model, batch, preference)[0]


def told_logps(
    model: nnx.Module, batch: PreferenceBatch, preference: PreferenceSettings
) -> tuple[Pairs, dict[str, jax.Array]]:
    """`logps_of`, and what layers told on the way, by name. Nothing sown stays in the model."""
    logits, sown = captured(model, model.config, *stacked(batch))
    return pair_logps(logits, batch, pair_masks(batch, preference)), collected(sown, model.config)


def preference_grads(
    state: PreferenceStateNNX, batch: PreferenceBatch, settings: TrainSettings, preference: PreferenceSettings
) -> Grads:
    """Gradients of the loss by the policy's Params alone, and the terms, over all microbatches.

    Whatever else the policy's forward pass changed (rng counters) is written back into it.
    """
    params, rest, reference, loss = _apart(state, settings, preference)
    differentiate, shares = jax.grad(loss, has_aux=True), pair_shares(batch, settings, preference)
    if settings.gradient_accumulation_steps == 1:
        grads, (terms, rest) = differentiate(params, rest, reference, batch, shares)
    else:
        start = zero_terms(state.model.config)
        together = _accumulated(differentiate, settings.gradient_accumulation_steps, start)
        grads, terms, rest = together((params, rest, reference), batch, shares)
    nnx.update(state.model, rest)
    return grads, terms


def reference_grads(
    state: PreferenceStateNNX, batch: PreferenceBatch, settings: TrainSettings, preference: PreferenceSettings
) -> nnx.State:
    """Gradients of the loss by the reference's Params: zeros, or something leaks into what must stay fixed."""
    params, rest, reference, loss = _apart(state, settings, preference)
    shares = pair_shares(batch, settings, preference)
    return jax.grad(loss, argnums=2, has_aux=True)(params, rest, reference, batch, shares)[0]


def _apart(
    state: PreferenceStateNNX, settings: TrainSettings, preference: PreferenceSettings
) -> tuple[nnx.State, nnx.State, nnx.State, Loss]:
    """The policy's Params, whatever else it holds, the reference's Params, and the loss of all three and a batch.

    What the policy's layers sow is in the terms; what the reference's sow is let go.
    """
    graphdef, params, rest = nnx.split(state.model, nnx.Param, ...)
    fixed, reference, quiet = nnx.split(state.reference_model, nnx.Param, ...)

    def loss(
        params: nnx.State, rest: nnx.State, reference: nnx.State, batch: PreferenceBatch, shares: Shares
    ) -> tuple[jax.Array, Aux]:
        model = nnx.merge(graphdef, params, rest, copy=True)
        reference_model = nnx.merge(fixed, reference, quiet, copy=True)
        ours, aux = told_logps(model, batch, preference)
        theirs = jax.lax.stop_gradient(logps_of(reference_model, batch, preference))
        value, terms = preference_objective(ours, theirs, pair_masks(batch, preference), settings, preference)
        value, terms = with_told(value, terms, aux, shares)
        return value, (terms, nnx.state(model, nnx.Not(nnx.Any(nnx.Param, nnx.Intermediate))))

    return params, rest, reference, loss


def _accumulated(
    differentiate: Callable[..., Any], count: int, zero: PreferenceTerms
) -> Callable[[Parts, PreferenceBatch, Shares], tuple[nnx.State, PreferenceTerms, nnx.State]]:
    """Gradients summed over strided microbatches; the policy's rng counters advance through the carry."""

    def grads(parts: Parts, batch: PreferenceBatch, shares: Shares) -> tuple[nnx.State, PreferenceTerms, nnx.State]:
        params, rest, reference = parts

        def step(carry: tuple[Any, PreferenceTerms, nnx.State], part: PreferenceBatch) -> tuple[Any, None]:
            total, sums, rest = carry
            grads, (terms, rest) = differentiate(params, rest, reference, part, shares)
            return (jax.tree.map(jnp.add, total, grads), added_terms(sums, terms), rest), None

        start = (jax.tree.map(jnp.zeros_like, params), zero, rest)
        rows = PreferenceBatch(*[strided(field, count) for field in batch])
        (total, terms, rest), _ = jax.lax.scan(step, start, rows)
        return scaled(total, terms.pairs), terms, rest

    return grads


def preference_step(
    config: ModelConfig, settings: TrainSettings, preference: PreferenceSettings, graphdef: Any
) -> Callable[[nnx.State, PreferenceBatch], tuple[nnx.State, dict[str, jax.Array]]]:
    """(state, batch) -> (state after one update, metrics). `graphdef` is the static half of a PreferenceStateNNX.

    Dropout keys come from the rng counters in the state. Intermediates never leave the step.
    """

    def step(state: nnx.State, batch: PreferenceBatch) -> tuple[nnx.State, dict[str, jax.Array]]:
        train_state = nnx.merge(graphdef, state)
        train_state.model.set_attributes(deterministic=config.dropout_rate == 0.0, raise_if_not_found=False)
        grads, terms = preference_grads(train_state, batch, settings, preference)
        raw_norm = global_norm(grads)
        grads = clipped(grads, raw_norm, settings)
        train_state.apply_gradients(grads)
        settle(train_state.model, terms.aux)
        params = nnx.state(train_state.model, nnx.Param)
        norms = {"raw_grad_norm": raw_norm, "grad_norm": global_norm(grads), "param_norm": global_norm(params)}
        return nnx.state(train_state, nnx.Not(nnx.Intermediate)), preference_metrics(terms, norms, settings)

    return step
