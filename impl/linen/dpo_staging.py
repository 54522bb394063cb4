"""The Linen side's preference optimisation on abstract values, for a proof: gradients and the whole step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

from impl.config import ModelConfig
from impl.linen.dpo import logps_fn, preference_grad_fn, preference_step, with_reference
from impl.linen.state import abstract_state
from impl.names import addresses
from impl.preference_staging import REFERENCE, abstract_pairs, pairs_of
from impl.staging import Labels, Staged, named, prefixed
from impl.training.objective import named_terms
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
    programs = _Programs(model, layout, asked)
    leaves, stacks = programs.leaves, programs.labels.stacks
    held = {key: leaf for key, leaf in leaves.items() if key in programs.policy or key.startswith(REFERENCE)}
    batch, key = abstract_pairs(asked[0], rows), {"key": jax.eval_shape(lambda: jax.random.key(0))}
    everything = {**stacks, **prefixed(stacks, "gradients/"), **prefixed(stacks, "updates/")}
    return {
        "evaluate": Staged(programs.evaluate, held | batch, everything),
        "gradients": Staged(programs.gradients, held | batch | key, everything),
        "step": Staged(programs.step, leaves | batch | key, everything),
    }


class _Programs:
    """state: a PreferenceState of shapes; leaves: all of it by name; policy: the names of its params."""

    def __init__(
        self,
        model: Callable[..., nn.Module],
        layout: str,
        asked: tuple[ModelConfig, TrainSettings, PreferenceSettings],
    ):
        config, settings, self.preference = asked
        self.labels = Labels(addresses(config, layout))
        self._name = _names(self.labels)
        plain = nn.unbox(abstract_state(model(deterministic=True), optimizer(settings), config))
        self.state = with_reference(plain, plain.params)
        self.leaves = named(self.state, self._name)
        self.policy = named({"params": self.state.params}, self._name).keys()
        self._logps = logps_fn(model, self.preference)
        self._gradients = preference_grad_fn(model, settings, self.preference)
        self._update = preference_step(self._gradients, settings, config)

    def evaluate(self, values: Values) -> Values:
        held, batch = self._filled(values), pairs_of(values)
        ours, theirs = (self._logps(params, batch) for params in (held.params, held.reference_params))
        found = outcomes(ours, theirs, self.preference)
        return {f"outputs/{key}": value for key, value in found._asdict().items()}

    def gradients(self, values: Values) -> Values:
        held = self._filled(values)
        grads, terms = self._gradients(held.params, held.reference_params, pairs_of(values), values["key"])
        losses = {f"loss/{key}": value for key, value in named_terms(terms).items()}
        return losses | {f"gradients/{key}": leaf for key, leaf in named({"params": grads}, self._name).items()}

    def step(self, values: Values) -> Values:
        after, metrics = self._update(self._filled(values), pairs_of(values), values["key"])
        losses = {f"loss/{key}": value for key, value in metrics.items()}
        return losses | {f"updates/{key}": leaf for key, leaf in named(after, self._name).items()}

    def _filled(self, values: Values) -> Any:
        """The state; what a program was not given, and does not read, stays a shape."""
        order = [values.get(name, leaf) for name, leaf in self.leaves.items()]
        return jax.tree.unflatten(jax.tree.structure(self.state), order)


def _names(labels: Labels) -> Callable[[Path], str]:
    """Names of a PreferenceState's leaves: step, parameters, the reference's parameters, optimizer slots."""

    def name(path: Path) -> str:
        if path[0] == "params":
            return labels.parameter(path[2:])
        if path[0] == "reference_params":
            return labels.parameter(path[2:], REFERENCE)
        return labels.slot(path[1:]) if path[0] == "opt_state" else "/".join(path)

    return name
