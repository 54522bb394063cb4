"""Random streams of an NNX state as they are after so many steps, for a state that comes from where none are saved.

Linen makes the keys of a step from the seed and the step's number, and saves none. NNX saves a key and a counter for
each stream: the key is the seed's, and the counter goes up with every draw.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from impl.config import ModelConfig
from impl.nnx.state import TrainStateNNX, called
from impl.training.objective import Batch

__all__ = ["streams_after"]


def streams_after(init: Callable[[], TrainStateNNX], config: ModelConfig, passes: int) -> nnx.State:
    """The streams of the model of a state made by `init`, after `passes` passes of training.

    How often a pass draws from each stream is not known beforehand: one is made on tokens that mean nothing. Nothing
    of it but the counters is wanted, so that the compiler leaves out the rest.
    """

    def one_pass() -> tuple[nnx.State, nnx.State]:
        model = init().model
        model.set_attributes(deterministic=config.dropout_rate == 0.0, raise_if_not_found=False)
        fresh = nnx.state(model, nnx.RngState)
        fresh = jax.tree.map(lambda leaf: leaf, fresh)  # its Variables are the model's own
        called(model, _nothing(config.max_target_length))
        return fresh, nnx.state(model, nnx.RngState)

    fresh, after = jax.jit(one_pass)()
    return jax.tree.map(lambda old, new: _advanced(old, new, passes), fresh, after)


def _advanced(old: jax.Array, new: jax.Array, passes: int) -> jax.Array:
    """A counter that went from `old` to `new` in one pass; keys stay."""
    counter = jnp.issubdtype(old.dtype, jnp.integer)
    return old + passes * (new - old) if counter else old


def _nothing(length: int) -> Batch:
    """One row of one segment; tokens, positions, segment_ids, targets and target_segments int32 [1, T]."""
    zeros, positions = jnp.zeros((1, length), jnp.int32), jnp.arange(length, dtype=jnp.int32)[None]
    return Batch(zeros, positions, zeros + 1, zeros, zeros + 1)
