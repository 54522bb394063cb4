"""The Linen train state: flax's TrainState, whose params are the variables dict {"params": ...}.

Beside "params" it holds the statistics of quantised products, if there are any: TrainState knows their collection,
keeps the optimizer away from them and replaces them by what stands for their gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.training.train_state import TrainState

from impl.config import ModelConfig
from impl.statistics import COLLECTION

__all__ = ["abstract_state", "first_statistics", "init_state_fn", "state_with"]


def init_state_fn(
    model: nn.Module, tx: optax.GradientTransformation, config: ModelConfig, seed: int
) -> Callable[[], TrainState]:
    """A zero-argument callable that makes a fresh state; parameters are in their logical-partitioning boxes."""

    def init() -> TrainState:
        keys = dict(zip(("params", "dropout"), jax.random.split(jax.random.key(seed)), strict=True))
        made = model.init(keys, *_sample(config))
        return state_with(model, tx, {name: made[name] for name in ("params", COLLECTION) if name in made})

    return init


def abstract_state(model: nn.Module, tx: optax.GradientTransformation, config: ModelConfig) -> TrainState:
    """The state's shapes and dtypes, boxed, with nothing allocated. nn.get_partition_spec reads its logical axes."""
    return jax.eval_shape(init_state_fn(model, tx, config, 0))


def state_with(model: nn.Module, tx: optax.GradientTransformation, variables: Any) -> TrainState:
    """A state at step 0 that holds the collections `variables` (unboxed): "params", and statistics."""
    state = TrainState.create(apply_fn=model.apply, params=variables, tx=tx)
    # TrainState starts its step as a Python int: it would retrace on the second step and has no dtype to save.
    return state.replace(step=jnp.zeros((), jnp.int32))


def first_statistics(model: nn.Module, config: ModelConfig) -> dict[str, Any]:
    """The collection of statistics as the model makes it, to be merged into its variables; {} where it makes none."""

    def init() -> dict[str, Any]:
        return {COLLECTION: model.init(jax.random.key(0), *_sample(config))[COLLECTION]}

    # Compiled without the parameters: what draws them is dead code.
    return jax.jit(init)() if config.quantization else {}


def _sample(config: ModelConfig) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Tokens, positions and segment ids of the least input that creates every parameter."""
    row = jnp.ones((1, config.max_target_length), jnp.int32)
    return row, row, row
