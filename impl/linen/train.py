"""The Linen train step: a pure function of (TrainState, batch, key)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.fp8_ops import OVERWRITE_WITH_GRADIENT
from flax.training.train_state import TrainState

from impl.config import ModelConfig
from impl.experts import LOADS
from impl.latent import PEAKS
from impl.linen.sown import passed
from impl.linen.tiling import tiled_loss
from impl.math.accumulation import strided
from impl.math.precision import full
from impl.sharding.memory import fetched, on_device, returned
from impl.statistics import accumulated
from impl.training.auxiliary import blank, moved_biases
from impl.training.clip import clipped_heads
from impl.training.objective import (
    Batch,
    Shares,
    Terms,
    added,
    auxiliary_shares,
    clipped,
    global_norm,
    metrics,
    objective,
    scaled,
    with_auxiliary,
)
from impl.training.prediction import check_predictable, unpredicted
from impl.training.settings import TrainSettings

__all__ = ["grad_fn", "settled", "train_step"]

Grads = Callable[[Any, Batch, jax.Array], tuple[Any, Terms]]


def grad_fn(model: nn.Module, settings: TrainSettings, config: ModelConfig) -> Grads:
    """(params, batch, key) -> (what takes the place of each variable's gradient, loss terms), over all microbatches."""

    check_predictable(model, config)

    def loss(params: Any, batch: Batch, key: jax.Array, shares: Shares) -> tuple[jax.Array, Terms]:
        logits, aux = passed(model, config, params, batch, key)
        value, terms = objective(logits, batch, settings)
        return with_auxiliary(value, terms, aux, shares)

    tiled = settings.num_vocab_tiling > 1
    differentiate = jax.grad(tiled_loss(model, settings, config) if tiled else loss, has_aux=True)
    differentiate = fetched(differentiate, config)
    if settings.gradient_accumulation_steps > 1:
        return _accumulated(differentiate, settings, config)

    def grads(params: Any, batch: Batch, key: jax.Array) -> tuple[Any, Terms]:
        return differentiate(params, batch, key, auxiliary_shares(batch, settings, config))

    return grads


def _accumulated(differentiate: Callable[..., Any], settings: TrainSettings, config: ModelConfig) -> Grads:
    """Gradients summed over strided microbatches, one dropout key each, then divided by the summed weights.

    Statistics are no sums: see `impl.statistics.accumulated`.
    """
    count = settings.gradient_accumulation_steps

    def grads(params: Any, batch: Batch, key: jax.Array) -> tuple[Any, Terms]:
        shares = auxiliary_shares(batch, settings, config)

        def step(carry: tuple[Any, Terms], micro: tuple[jax.Array, Batch]) -> tuple[tuple[Any, Terms], None]:
            index, part = micro
            grads, terms = differentiate(params, part, jax.random.fold_in(key, index), shares)
            total = {name: jax.tree.map(_together(name), carry[0][name], grads[name]) for name in grads}
            return (total, added(carry[1], terms)), None

        zero = jnp.zeros((), full())
        start = (jax.tree.map(jnp.zeros_like, params), Terms(zero, zero, zero, blank(config) | unpredicted(config)))
        parts = Batch(*[strided(field, count) for field in batch])
        (total, terms), _ = jax.lax.scan(step, start, (jnp.arange(count), parts))
        return {**total, "params": scaled(total["params"], terms.weights)}, terms

    return grads


def _together(collection: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
    return accumulated if collection == OVERWRITE_WITH_GRADIENT else jnp.add


def settled(params: Any, aux: dict[str, jax.Array], config: ModelConfig) -> Any:
    """Parameters after the optimizer's step, changed by what layers told: routing biases moved, heads clipped."""
    if LOADS in aux:
        params = moved_biases(params, aux[LOADS], config)
    return clipped_heads(params, aux[PEAKS], config) if PEAKS in aux else params


def train_step(
    model: nn.Module, settings: TrainSettings, config: ModelConfig
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, dict[str, jax.Array]]]:
    """(state, batch, key) -> (state after one update, metrics). The dropout key is `key` folded by the step."""
    gradients = grad_fn(model, settings, config)

    def step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
        grads, terms = gradients(state.params, batch, jax.random.fold_in(key, state.step))
        before = state.params
        if config.parameter_memory_host_offload:
            state = state.replace(params=on_device(before))
        raw_norm = global_norm(grads["params"])
        # What stands for the gradient of a statistic is its next value: only parameters are measured and clipped.
        trained = clipped(grads["params"], raw_norm, settings)
        state = state.apply_gradients(grads={**grads, "params": trained})
        state = state.replace(params=settled(state.params, terms.aux, config))
        params = state.params["params"]
        norms = {"raw_grad_norm": raw_norm, "grad_norm": global_norm(trained), "param_norm": global_norm(params)}
        if config.parameter_memory_host_offload:
            state = state.replace(params=returned(state.params, before))
        return state, metrics(terms, norms, settings)

    return step
