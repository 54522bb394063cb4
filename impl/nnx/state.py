"""The NNX train state: one module that holds the model and its optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

from impl.config import ModelConfig
from impl.training.auxiliary import asked
from impl.training.objective import Batch
from impl.trees import flat, nested, overlay

__all__ = [
    "TrainStateNNX",
    "abstract_state",
    "called",
    "captured",
    "filled",
    "init_state_fn",
    "logical_axes",
    "state_paths",
]

Path = tuple[str, ...]


class TrainStateNNX(nnx.Module):
    """model and optimizer together; None as optimizer is a state for inference.

    `apply_gradients` raises RuntimeError on a state without optimizer.
    """

    def __init__(self, model: nnx.Module, optimizer: nnx.Optimizer | None):
        self.model = model
        self.optimizer = optimizer

    def apply_gradients(self, grads: Any, **extra: Any) -> None:
        """Update the model in place; `extra` is forwarded to the optimizer (loss, gradient norm)."""
        if self.optimizer is None:
            raise RuntimeError("this state has no optimizer (it was made for inference): build it with one to train")
        self.optimizer.update(self.model, grads, **extra)


def init_state_fn(
    build: Callable[..., nnx.Module], tx: optax.GradientTransformation, config: ModelConfig, seed: int
) -> Callable[[], TrainStateNNX]:
    """A zero-argument callable that makes a fresh state: build(config, rngs=...) and its optimizer.

    The model gets one stream of keys for parameters and one for dropout.
    """

    def init() -> TrainStateNNX:
        params, dropout = jax.random.split(jax.random.key(seed))
        model = build(config, rngs=nnx.Rngs(params=params, dropout=dropout))
        return TrainStateNNX(model, nnx.Optimizer(model, tx, wrt=nnx.Param))

    return init


def abstract_state(
    build: Callable[..., nnx.Module], tx: optax.GradientTransformation, config: ModelConfig
) -> TrainStateNNX:
    """The state's graph, shapes and dtypes with nothing allocated."""
    return nnx.eval_shape(init_state_fn(build, tx, config, 0))


def called(model: nnx.Module, batch: Batch) -> tuple[jax.Array, dict[Path, jax.Array]]:
    """Logits [B, T, V] of a batch, and what layers sowed on the way, by path. Nothing sown stays in the model."""
    return captured(model, model.config, batch.tokens, batch.positions, batch.segment_ids)


def captured(
    call: Callable[..., Any], config: ModelConfig, *inputs: jax.Array
) -> tuple[jax.Array, dict[Path, jax.Array]]:
    """What a model, or a method of one, makes of tokens, positions and segment ids, and what layers sowed, by path."""
    if not asked(config):
        return call(*inputs), {}
    made, sown = nnx.capture(call, nnx.Intermediate)(*inputs)
    return made, state_paths(sown)


def logical_axes(state: nnx.State) -> dict[tuple[str, ...], tuple[Any, ...]]:
    """Path of each Variable of `state` -> its logical axis names, () where it has none."""
    return {
        tuple(map(str, path)): tuple(variable.get_metadata().get("out_sharding") or ())
        for path, variable in nnx.to_flat_state(state)
    }


def state_paths(state: nnx.State) -> dict[Path, Any]:
    """Leaves of a State by path of key strings; integer keys (nnx.List) become digits."""
    return flat(nnx.to_pure_dict(state))


def filled(abstract: nnx.State, leaves: Mapping[Path, np.ndarray], root: Path) -> nnx.State:
    """`abstract` (Variables of shapes) with arrays in them. Raises BridgeError unless `leaves` fit it exactly.

    nnx.update would accept unknown names and wrong shapes silently; this does not.
    """
    arrays = overlay(nnx.to_pure_dict(abstract), nested({(*root, *path): leaf for path, leaf in leaves.items()}))
    state = jax.tree.map(lambda leaf: leaf, abstract)
    nnx.replace_by_pure_dict(state, arrays)
    return state
