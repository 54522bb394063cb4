"""The NNX train step: a pure function of (state, batch) around merge and split of TrainStateNNX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from impl.config import ModelConfig
from impl.experts import LOADS
from impl.latent import PEAKS
from impl.math.accumulation import strided
from impl.math.precision import full
from impl.nnx.fp8 import DIFFERENTIATED, Overwritten
from impl.nnx.sown import passed
from impl.nnx.tiling import tiled_loss
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

__all__ = ["grads_of", "on_leaves", "settle", "train_step"]


def grads_of(model: nnx.Module, batch: Batch, settings: TrainSettings) -> tuple[nnx.State, Terms]:
    """Gradients of the loss by the model's Params, and the loss terms, over all microbatches.

    Whatever else the pass changed is written back into `model`: rng counters, and the next values of statistics, which
    differentiation returns in place of their gradients.
    """
    graphdef, params, rest = nnx.split(model, DIFFERENTIATED, ...)
    check_predictable(model, model.config)
    shares, tiled = auxiliary_shares(batch, settings, model.config), settings.num_vocab_tiling > 1
    differentiate = jax.grad((tiled_loss if tiled else _loss)(graphdef, settings, shares), has_aux=True)
    differentiate = fetched(differentiate, model.config)
    if settings.gradient_accumulation_steps == 1:
        grads, (terms, rest) = differentiate(params, rest, batch)
        grads, rest = _apart(grads, rest)
    else:
        zero = jnp.zeros((), full())
        start = Terms(zero, zero, zero, blank(model.config) | unpredicted(model.config))
        grads, terms, rest = _accumulated(differentiate, (params, start, rest), batch, settings)
    nnx.update(model, rest)
    return grads, terms


def _loss(
    graphdef: Any, settings: TrainSettings, shares: Shares
) -> Callable[..., tuple[jax.Array, tuple[Terms, nnx.State]]]:
    def loss(params: nnx.State, rest: nnx.State, batch: Batch) -> tuple[jax.Array, tuple[Terms, nnx.State]]:
        model = nnx.merge(graphdef, params, rest, copy=True)
        logits, aux = passed(model, batch)
        value, terms = objective(logits, batch, settings)
        value, terms = with_auxiliary(value, terms, aux, shares)
        return value, (terms, nnx.state(model, nnx.Not(nnx.Any(DIFFERENTIATED, nnx.Intermediate))))

    return loss


def _accumulated(
    differentiate: Callable[..., Any],
    before: tuple[nnx.State, Terms, nnx.State],
    batch: Batch,
    settings: TrainSettings,
) -> tuple[nnx.State, Terms, nnx.State]:
    """Gradients summed over strided microbatches; the rng counters advance through the carry.

    before: parameters, terms of zeros, and the rest of the model's state.
    """
    count, (params, zero, rest) = settings.gradient_accumulation_steps, before

    def step(carry: tuple[Any, Terms, nnx.State], part: Batch) -> tuple[tuple[Any, Terms, nnx.State], None]:
        total, sums, rest = carry
        grads, (terms, rest) = differentiate(params, rest, part)
        return (_added(total, grads), added(sums, terms), rest), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    start = (zeros, zero, rest)
    (total, terms, rest), _ = jax.lax.scan(step, start, Batch(*[strided(field, count) for field in batch]))
    total, rest = _apart(total, rest)
    return scaled(total, terms.weights), terms, rest


def _apart(grads: nnx.State, rest: nnx.State) -> tuple[nnx.State, nnx.State]:
    """Gradients of Params alone, and `rest` with what stands for the gradients of statistics."""
    grads, statistics = nnx.split_state(grads, nnx.Param, Overwritten)
    return grads, nnx.merge_state(rest, statistics)


def _added(total: nnx.State, grads: nnx.State) -> nnx.State:
    """Gradients add over microbatches; statistics do not: see `impl.statistics.accumulated`."""
    (sums, older), (params, newer) = (nnx.split_state(part, nnx.Param, Overwritten) for part in (total, grads))
    return nnx.merge_state(jax.tree.map(jnp.add, sums, params), jax.tree.map(accumulated, older, newer))


def train_step(
    config: ModelConfig, settings: TrainSettings, graphdef: Any
) -> Callable[[nnx.State, Batch], tuple[nnx.State, dict[str, jax.Array]]]:
    """(state, batch) -> (state after one update, metrics). `graphdef` is the static half of a split TrainStateNNX.

    Dropout keys come from the rng counters in the state. Intermediates never leave the step.
    """

    def step(state: nnx.State, batch: Batch) -> tuple[nnx.State, dict[str, jax.Array]]:
        train_state = nnx.merge(graphdef, state)
        if config.dropout_rate:
            train_state.model.train()
        else:
            train_state.model.eval()
        grads, terms = grads_of(train_state.model, batch, settings)
        before = nnx.state(train_state.model, nnx.Param)
        if config.parameter_memory_host_offload:
            nnx.update(train_state.model, on_device(before))
        raw_norm = global_norm(grads)
        grads = clipped(grads, raw_norm, settings)
        train_state.apply_gradients(grads)
        settle(train_state.model, terms.aux)
        params = nnx.state(train_state.model, nnx.Param)
        norms = {"raw_grad_norm": raw_norm, "grad_norm": global_norm(grads), "param_norm": global_norm(params)}
        if config.parameter_memory_host_offload:
            nnx.update(train_state.model, returned(params, before))
        return nnx.state(train_state, nnx.Not(nnx.Intermediate)), metrics(terms, norms, settings)

    return step


def settle(model: nnx.Module, aux: dict[str, jax.Array]) -> None:
    """Params changed in place after the optimizer's step by what layers told: routing biases moved, heads clipped."""
    if LOADS in aux:
        _rewrite(model, moved_biases, aux[LOADS])
    if PEAKS in aux:
        _rewrite(model, clipped_heads, aux[PEAKS])


def _rewrite(model: nnx.Module, rule: Callable[..., Any], told: jax.Array) -> None:
    params = nnx.state(model, nnx.Param)
    nnx.replace_by_pure_dict(params, rule(nnx.to_pure_dict(params), told, model.config))
    nnx.update(model, params)


def on_leaves(step: Callable[..., Any], structure: jax.tree_util.PyTreeDef) -> Callable[..., Any]:
    """`step` on the leaves of the state instead of the State: (leaves, batch) -> (leaves, metrics).

    jax.jit dispatches a list of arrays several times faster than a State, whose Variables are flattened in Python.
    Raises ValueError while tracing if the step does not return a state of the same structure.
    """

    def run(leaves: list[jax.Array], batch: Batch) -> tuple[list[jax.Array], dict[str, jax.Array]]:
        state, metrics = step(jax.tree.unflatten(structure, leaves), batch)
        after, found = jax.tree.flatten(state)
        if found != structure:
            raise ValueError(f"the train step changed the structure of the state: {found} instead of {structure}")
        return after, metrics

    return run
