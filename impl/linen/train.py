"""The Linen train step: a pure function of (TrainState, batch, key)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.training.train_state import TrainState

from impl.math.accumulation import strided
from impl.math.precision import full
from impl.training.objective import Batch, Terms, clipped, global_norm, metrics, objective, scaled
from impl.training.settings import TrainSettings

__all__ = ["grad_fn", "train_step"]

Grads = Callable[[Any, Batch, jax.Array], tuple[Any, Terms]]


def grad_fn(model: nn.Module, settings: TrainSettings) -> Grads:
    """(params, batch, key) -> (gradients like params, loss terms), over all microbatches."""

    def loss(params: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Terms]:
        logits = model.apply(params, batch.tokens, batch.positions, batch.segment_ids, rngs={"dropout": key})
        return objective(logits, batch, settings)

    differentiate = jax.grad(loss, has_aux=True)
    return differentiate if settings.gradient_accumulation_steps == 1 else _accumulated(differentiate, settings)


def _accumulated(differentiate: Grads, settings: TrainSettings) -> Grads:
    """Gradients summed over strided microbatches, one dropout key each, then divided by the summed weights."""
    count = settings.gradient_accumulation_steps

    def grads(params: Any, batch: Batch, key: jax.Array) -> tuple[Any, Terms]:
        def step(carry: tuple[Any, Terms], micro: tuple[jax.Array, Batch]) -> tuple[tuple[Any, Terms], None]:
            index, part = micro
            return jax.tree.map(jnp.add, carry, differentiate(params, part, jax.random.fold_in(key, index))), None

        start = (jax.tree.map(jnp.zeros_like, params), Terms(*[jnp.zeros((), full())] * len(Terms._fields)))
        parts = Batch(*[strided(field, count) for field in batch])
        (total, terms), _ = jax.lax.scan(step, start, (jnp.arange(count), parts))
        return scaled(total, terms.weights), terms

    return grads


def train_step(
    model: nn.Module, settings: TrainSettings
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, dict[str, jax.Array]]]:
    """(state, batch, key) -> (state after one update, metrics). The dropout key is `key` folded by the step."""
    gradients = grad_fn(model, settings)

    def step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
        grads, terms = gradients(state.params, batch, jax.random.fold_in(key, state.step))
        raw_norm = global_norm(grads)
        grads = clipped(grads, raw_norm, settings)
        state = state.apply_gradients(grads=grads)
        norms = {"raw_grad_norm": raw_norm, "grad_norm": global_norm(grads), "param_norm": global_norm(state.params)}
        return state, metrics(terms, norms, settings)

    return step
