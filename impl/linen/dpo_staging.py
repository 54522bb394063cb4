"""The Linen side's preference optimisation on abstract values, for a proof: gradients and the whole step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

from impl.config import ModelConfig
from impl.linen.dpo import logps_fn, loss_fn, preference_grad_fn, preference_step, with_reference
from impl.linen.state import abstract_state
from impl.names import addresses
from impl.preference_staging import REFERENCE, abstract_pairs, pairs_of
from impl.staging import Labels, Staged, named, prefixed
from impl.training.optimizers import optimizer
from impl.training.preference import outcomes
from impl.training.settings import PreferenceSettings, TrainSettings

__all__ = ["staged_preference"]

Values = dict[str, Any]
Path = tuple[str, ...]


def staged_preference(
    model: Callable[..., nn.Module],
    layout: str,
    asked: tuple[ModelConfig, TrainSettings, PreferenceSettings],
    rows: int,
) -> dict[str, Staged]:
    """Part -> Staged, for a batch of `rows` pairs. model: deterministic -> module. Nothing is allocated."""
    config, settings, preference = asked
    labels = Labels(addresses(config, layout))
    plain = nn.unbox(abstract_state(model(deterministic=True), optimizer(settings), config))
    state = with_reference(plain, plain.params)
    logps = logps_fn(model, preference)
    gradients = preference_grad_fn(loss_fn(model, settings, preference), settings)
    update = preference_step(gradients, settings)
    name = _names(labels)
    leaves = named(state, name)
    params = {key: leaf for key, leaf in leaves.items() if key in set(named({"params": state.params}, name))}
    reference = {key: leaf for key, leaf in leaves.items() if key.startswith(REFERENCE)}
    batch = abstract_pairs(config, rows)
    fed = batch | {"key": jax.eval_shape(lambda: jax.random.key(0))}

    def filled(values: Values) -> Any:
        return jax.tree.unflatten(jax.tree.structure(state), [values.get(key, leaf) for key, leaf in leaves.items()])

    def evaluated(values: Values) -> Values:
        held, batch = filled(values), pairs_of(values)
        found = outcomes(logps(held.params, batch), logps(held.reference_params, batch), preference)
        return {f"outputs/{key}": value for key, value in found._asdict().items()}

    def differentiated(values: Values) -> Values:
        held = filled(values)
        grads, terms = gradients(held.params, held.reference_params, pairs_of(values), values["key"])
        losses = {f"loss/{key}": value for key, value in terms._asdict().items()}
        return losses | {f"gradients/{key}": leaf for key, leaf in named({"params": grads}, name).items()}

    def step(values: Values) -> Values:
        after, metrics = update(filled(values), pairs_of(values), values["key"])
        losses = {f"loss/{key}": value for key, value in metrics.items()}
        return losses | {f"updates/{key}": leaf for key, leaf in named(after, name).items()}

    stacks = {**labels.stacks, **prefixed(labels.stacks, "gradients/"), **prefixed(labels.stacks, "updates/")}
    return {
        "evaluate": Staged(evaluated, params | reference | batch, stacks),
        "gradients": Staged(differentiated, params | reference | fed, stacks),
        "step": Staged(step, leaves | fed, stacks),
    }


def _names(labels: Labels) -> Callable[[Path], str]:
    """Names of a PreferenceState's leaves: step, parameters, the reference's parameters, optimizer slots."""

    def name(path: Path) -> str:
        if path[0] == "params":
            return labels.parameter(path[2:])
        if path[0] == "reference_params":
            return labels.parameter(path[2:], REFERENCE)
        return labels.slot(path[1:]) if path[0] == "opt_state" else "/".join(path)

    return name
