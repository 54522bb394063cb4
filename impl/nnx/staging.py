"""The NNX side's programs on abstract values, for a proof: start, forward, gradients, the whole train step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from impl.config import ModelConfig
from impl.names import addresses
from impl.nnx.fp8 import Overwritten
from impl.nnx.state import TrainStateNNX, abstract_state, called, filled, state_paths
from impl.nnx.train import grads_of, train_step
from impl.staging import Labels, Staged, abstract_batch, batch_of, prefixed
from impl.statistics import statistic_addresses
from impl.training.objective import named_terms
from impl.training.optimizers import optimizer
from impl.training.settings import TrainSettings

__all__ = ["STREAMS", "staged", "state_name"]

Values = dict[str, Any]
Path = tuple[str, ...]
MODEL, STEP = ("model",), ("optimizer", "step")
STREAMS = "rngs "
"""Streams of random keys, which only this side keeps, are inputs under names that begin so."""


def staged(
    build: Callable[..., nnx.Module], layout: str, config: ModelConfig, settings: TrainSettings, rows: int
) -> dict[str, Staged]:
    """Program -> Staged, for a batch of `rows` rows of max_target_length. Nothing is allocated, whatever the size.

    The step is named and typed as Linen's is, int32, though this side counts in uint32: bits are kept both ways.
    """
    programs = _Programs(build, layout, config, settings)
    batch, stacks = abstract_batch(config, rows), programs.labels.stacks
    model, whole = programs.leaves(programs.part, MODEL), programs.leaves(programs.whole, ())
    counted = whole | {"step": jax.ShapeDtypeStruct((), "int32")}
    everything = {**stacks, **prefixed(stacks, "gradients/"), **prefixed(stacks, "updates/")}
    return {
        "start": Staged(programs.start, model, everything),
        "forward": Staged(programs.forward, model | batch, everything),
        "gradients": Staged(programs.gradients, model | batch, everything),
        "step": Staged(programs.step, counted | batch, everything),
    }


class _Programs:
    """whole: the state of a TrainStateNNX; part: of its model alone."""

    def __init__(self, build: Callable[..., nnx.Module], layout: str, config: ModelConfig, settings: TrainSettings):
        self.config, self.settings = config, settings
        self.labels = Labels({**addresses(config, layout), **statistic_addresses(config, layout)})
        self._name = state_name(self.labels)
        abstract = abstract_state(build, optimizer(settings), config)
        self.graphdef, self.whole = nnx.split(abstract)
        self.model_def, self.part = nnx.split(abstract.model)
        self._update = train_step(config, settings, self.graphdef)

    def leaves(self, state: nnx.State, root: Path) -> Values:
        """The leaves of `state`, which lies below `root` in a TrainStateNNX, by name."""
        return {self._name((*root, *path)): leaf for path, leaf in state_paths(state).items()}

    def start(self, values: Values) -> Values:
        model = self._merged(values)
        return self._updates(
            nnx.state(TrainStateNNX(model, nnx.Optimizer(model, optimizer(self.settings), wrt=nnx.Param)))
        )

    def forward(self, values: Values) -> Values:
        model = self._merged(values)
        model.eval()
        return {"outputs/logits": called(model, batch_of(values))[0]}

    def gradients(self, values: Values) -> Values:
        model = self._merged(values)
        model.set_attributes(deterministic=self.config.dropout_rate == 0.0, raise_if_not_found=False)
        grads, terms = grads_of(model, batch_of(values), self.settings)
        losses = {f"loss/{name}": value for name, value in named_terms(terms).items()}
        found = self.leaves(grads, MODEL) | self.leaves(nnx.state(model, Overwritten), MODEL)
        return losses | {f"gradients/{name}": leaf for name, leaf in found.items()}

    def step(self, values: Values) -> Values:
        kept = state_paths(self.whole)[STEP].dtype
        state = self._filled(self.whole, (), values | {"step": values["step"].astype(kept)})
        after, metrics = self._update(state, batch_of(values))
        return {f"loss/{name}": value for name, value in metrics.items()} | self._updates(after)

    def _merged(self, values: Values) -> Any:
        return nnx.merge(self.model_def, self._filled(self.part, MODEL, values), copy=True)

    def _filled(self, state: nnx.State, root: Path, values: Values) -> nnx.State:
        return filled(state, {path: values[self._name((*root, *path))] for path in state_paths(state)}, ())

    def _updates(self, state: nnx.State) -> Values:
        found = self.leaves(state, ())
        found["step"] = found["step"].astype("int32")
        return {f"updates/{name}": leaf for name, leaf in found.items() if not name.startswith(STREAMS)}


def state_name(labels: Labels) -> Callable[[Path], str]:
    """Names of a TrainStateNNX's leaves: step, parameters, optimizer slots, streams of random keys."""

    def name(path: Path) -> str:
        if path == STEP:
            return "step"
        if path[0] == "optimizer":
            return labels.slot(path[2:])
        return labels.parameter(path[1:]) if labels.knows(path[1:]) else STREAMS + "/".join(path[1:])

    return name
