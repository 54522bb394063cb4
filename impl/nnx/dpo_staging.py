"""The NNX side's preference optimisation on abstract values, for a proof: gradients and the whole step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from impl.config import ModelConfig
from impl.names import addresses
from impl.nnx.dpo import PreferenceStateNNX, logps_of, preference_grads, preference_step, with_reference
from impl.nnx.state import filled, init_state_fn, state_paths
from impl.preference_staging import REFERENCE, abstract_pairs, pairs_of
from impl.staging import Labels, Staged, prefixed
from impl.training.objective import named_terms
from impl.training.optimizers import optimizer
from impl.training.preference import outcomes
from impl.training.settings import PreferenceSettings, TrainSettings

__all__ = ["staged_preference"]

Values = dict[str, Any]
Path = tuple[str, ...]
STEP, STREAMS = ("optimizer", "step"), "rngs "
"""Streams of random keys, which only this side keeps, are inputs under names that begin with STREAMS."""


def staged_preference(
    build: Callable[..., nnx.Module],
    layout: str,
    asked: tuple[ModelConfig, TrainSettings, PreferenceSettings],
    rows: int,
) -> dict[str, Staged]:
    """Part -> Staged, for a batch of `rows` pairs. Nothing is allocated, whatever the size.

    The step is named and typed as Linen's is, int32, though this side counts in uint32: bits are kept both ways.
    """
    programs = _Programs(build, layout, asked)
    held, leaves = programs.leaves(programs.part), programs.leaves(programs.whole)
    fed, stacks = abstract_pairs(asked[0], rows), programs.labels.stacks
    everything = {**stacks, **prefixed(stacks, "gradients/"), **prefixed(stacks, "updates/")}
    return {
        "evaluate": Staged(programs.evaluate, held | fed, everything),
        "gradients": Staged(programs.gradients, held | fed, everything),
        "step": Staged(programs.step, leaves | {"step": jax.ShapeDtypeStruct((), "int32")} | fed, everything),
    }


class _Programs:
    """whole: the state of a PreferenceStateNNX; part: of one without optimizer."""

    def __init__(
        self,
        build: Callable[..., nnx.Module],
        layout: str,
        asked: tuple[ModelConfig, TrainSettings, PreferenceSettings],
    ):
        self.config, self.settings, self.preference = asked
        self.labels = Labels(addresses(self.config, layout))
        plain = init_state_fn(build, optimizer(self.settings), self.config, 0)
        abstract = nnx.eval_shape(lambda: with_reference(plain()))
        self.graphdef, self.whole = nnx.split(abstract)
        self.part_def, self.part = nnx.split(PreferenceStateNNX(abstract.model, None, abstract.reference_model))
        self._update = preference_step(*asked, self.graphdef)

    def leaves(self, state: nnx.State) -> Values:
        """The leaves of `state`, all or some of a PreferenceStateNNX's, by name."""
        return {self._name(path): leaf for path, leaf in state_paths(state).items()}

    def evaluate(self, values: Values) -> Values:
        held, batch = nnx.merge(self.part_def, self._filled(self.part, values)), pairs_of(values)
        held.model.eval()
        ours, theirs = (logps_of(each, batch, self.preference) for each in (held.model, held.reference_model))
        found = outcomes(ours, theirs, self.preference)
        return {f"outputs/{name}": value for name, value in found._asdict().items()}

    def gradients(self, values: Values) -> Values:
        held = nnx.merge(self.part_def, self._filled(self.part, values))
        held.model.set_attributes(deterministic=self.config.dropout_rate == 0.0, raise_if_not_found=False)
        grads, terms = preference_grads(held, pairs_of(values), self.settings, self.preference)
        losses = {f"loss/{name}": value for name, value in named_terms(terms).items()}
        found = self.leaves(nnx.State({"model": grads}))
        return losses | {f"gradients/{name}": leaf for name, leaf in found.items()}

    def step(self, values: Values) -> Values:
        kept = state_paths(self.whole)[STEP].dtype
        state = self._filled(self.whole, values | {"step": values["step"].astype(kept)})
        after, metrics = self._update(state, pairs_of(values))
        found = self.leaves(after)
        found["step"] = found["step"].astype("int32")
        losses = {f"loss/{name}": value for name, value in metrics.items()}
        return losses | {f"updates/{name}": leaf for name, leaf in found.items() if not name.startswith(STREAMS)}

    def _filled(self, state: nnx.State, values: Values) -> nnx.State:
        return filled(state, {path: values[self._name(path)] for path in state_paths(state)}, ())

    def _name(self, path: Path) -> str:
        """A leaf of a PreferenceStateNNX: step, parameter, the reference's, optimizer slot, or a stream of keys."""
        if path == STEP:
            return "step"
        if path[0] == "optimizer":
            return self.labels.slot(path[2:])
        prefix = REFERENCE if path[0] == "reference_model" else ""
        known = self.labels.knows(path[1:])
        return self.labels.parameter(path[1:], prefix) if known else STREAMS + "/".join(path)
