"""The Linen train state: flax's TrainState, whose params are the variables dict {"params": ...}."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.training.train_state import TrainState

from impl.config import ModelConfig

__all__ = ["abstract_state", "init_state_fn", "state_with"]


def init_state_fn(
    model: nn.Module, tx: optax.GradientTransformation, config: ModelConfig, seed: int
) -> Callable[[], TrainState]:
    """A zero-argument callable that makes a fresh state; parameters are in their logical-partitioning boxes."""

    def init() -> TrainState:
        keys = dict(zip(("params", "dropout"), jax.random.split(jax.random.key(seed)), strict=True))
        params = model.init(keys, *_sample(config))["params"]
        return state_with(model, tx, params)

    return init


def abstract_state(model: nn.Module, tx: optax.GradientTransformation, config: ModelConfig) -> TrainState:
    """The state's shapes and dtypes, boxed, with nothing allocated. nn.get_partition_spec reads its logical axes."""
    return jax.eval_shape(init_state_fn(model, tx, config, 0))


def state_with(model: nn.Module, tx: optax.GradientTransformation, params: Any) -> TrainState:
    """A state at step 0 that holds the tree `params` (unboxed)."""
    state = TrainState.create(apply_fn=model.apply, params={"params": params}, tx=tx)
    # TrainState starts its step as a Python int: it would retrace on the second step and has no dtype to save.
    return state.replace(step=jnp.zeros((), jnp.int32))


def _sample(config: ModelConfig) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Tokens, positions and segment ids of the least input that creates every parameter."""
    row = jnp.ones((1, config.max_target_length), jnp.int32)
    return row, row, row
