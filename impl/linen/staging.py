"""The Linen side's programs on abstract values, for a proof: forward, gradients, the whole train step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

from impl.config import ModelConfig
from impl.linen.state import abstract_state, state_with
from impl.linen.train import grad_fn, train_step
from impl.names import addresses
from impl.staging import Labels, Staged, abstract_batch, batch_of, named, prefixed
from impl.statistics import statistic_addresses
from impl.training.objective import named_terms
from impl.training.optimizers import optimizer
from impl.training.settings import TrainSettings

__all__ = ["staged", "state_name"]

Values = dict[str, Any]


def staged(
    model: Callable[..., nn.Module], layout: str, config: ModelConfig, settings: TrainSettings, rows: int
) -> dict[str, Staged]:
    """Program -> Staged, for a batch of `rows` rows of max_target_length. Nothing is allocated, whatever the size."""
    state = nn.unbox(abstract_state(model(config), optimizer(settings), config))
    labels = Labels({**addresses(config, layout), **statistic_addresses(config, layout)})
    training = model(config, deterministic=config.dropout_rate == 0.0)
    gradients, update = grad_fn(training, settings, config), train_step(training, settings, config)
    batch, key = abstract_batch(config, rows), {"key": jax.eval_shape(lambda: jax.random.key(0))}
    params, leaves = named(state.params, _params(labels)), named(state, state_name(labels))

    def start(values: Values) -> Values:
        fresh = state_with(model(config), optimizer(settings), _tree(state.params, _params(labels), values))
        return {f"updates/{name}": leaf for name, leaf in named(fresh, state_name(labels)).items()}

    def forward(values: Values) -> Values:
        inputs = batch_of(values)[:3]
        return {"outputs/logits": model(config).apply(_tree(state.params, _params(labels), values), *inputs)}

    def differentiated(values: Values) -> Values:
        held = _tree(state.params, _params(labels), values)
        grads, terms = gradients(held, batch_of(values), values["key"])
        losses = {f"loss/{name}": value for name, value in named_terms(terms).items()}
        return losses | {f"gradients/{name}": leaf for name, leaf in named(grads, _params(labels)).items()}

    def step(values: Values) -> Values:
        after, metrics = update(_tree(state, state_name(labels), values), batch_of(values), values["key"])
        losses = {f"loss/{name}": value for name, value in metrics.items()}
        return losses | {f"updates/{name}": leaf for name, leaf in named(after, state_name(labels)).items()}

    stacks = {**labels.stacks, **prefixed(labels.stacks, "gradients/"), **prefixed(labels.stacks, "updates/")}
    return {
        "start": Staged(start, params, stacks),
        "forward": Staged(forward, params | batch, stacks),
        "gradients": Staged(differentiated, params | batch | key, stacks),
        "step": Staged(step, leaves | batch | key, stacks),
    }


def _params(labels: Labels) -> Callable[[tuple[str, ...]], str]:
    return lambda path: labels.parameter(path[1:])


def state_name(labels: Labels) -> Callable[[tuple[str, ...]], str]:
    """Names of a TrainState's leaves: step, parameters, optimizer slots."""

    def name(path: tuple[str, ...]) -> str:
        if path[0] == "params":
            return labels.parameter(path[2:])
        return labels.slot(path[1:]) if path[0] == "opt_state" else "/".join(path)

    return name


def _tree(like: Any, name: Callable[[tuple[str, ...]], str], values: Values) -> Any:
    """A tree like `like` whose leaves are `values` by name."""
    order = list(named(like, name))
    return jax.tree.unflatten(jax.tree.structure(like), [values[label] for label in order])
