"""Pieces of the Linen side of a module pair: variables by key, one call with dropout off, the loss, the train state."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import flax.linen as nn
import jax
from flax.training.train_state import TrainState
from flax.traverse_util import flatten_dict, unflatten_dict

from harness.modules.engine import Mode, Stored, total
from harness.modules.spec import Batch, LinenModel, Task
from harness.names import Key

__all__ = ["Apply", "State", "apply", "flat", "kept", "loss", "streams", "undropped", "variables_of"]


Apply = Callable[[Any, Batch, Any], tuple[Any, Any]]
"""(variables, batch, step) -> output and changed collections."""


class State(TrainState):
    """Flax's TrainState with the collections that are not trained: batch statistics and the like."""

    collections: Any = None


def streams(task: Task, step: Any) -> dict[str, jax.Array]:
    """A key for each of the task's random streams, another one in each step."""
    return {name: jax.random.fold_in(jax.random.key(1), step) for name in task.rngs}


def flat(variables: Any) -> dict[Key, Any]:
    """Leaves by key, without "intermediates"."""
    return {
        (collection, tuple(str(part) for part in path)): leaf
        for collection, tree in variables.items()
        if collection != "intermediates"
        for path, leaf in flatten_dict(nn.meta.unbox(tree)).items()
    }


def variables_of(stored: Stored) -> dict[str, Any]:
    """The variables that `apply` takes, from leaves by key."""
    return unflatten_dict(
        {(collection, *path): jax.numpy.asarray(array) for (collection, path), array in stored.items()}
    )


def kept(variables: Any) -> list[str]:
    """The collections that a call may change."""
    return sorted(set(variables) - {"params"})


def undropped(next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
    """Turns dropout off in train mode: the two frameworks draw different keys, so masks can never agree by value."""
    if context.method_name == "__call__" and isinstance(context.module, nn.Dropout):
        return args[0] if args else kwargs["inputs"]
    if not isinstance(context.module, nn.MultiHeadDotProductAttention):
        return next_fun(*args, **kwargs)
    # Attention has no Dropout module inside. The bound module is Linen's clone for this one call, never the user's.
    rate = context.module.dropout_rate
    object.__setattr__(context.module, "dropout_rate", 0.0)
    try:
        return next_fun(*args, **kwargs)
    finally:
        object.__setattr__(context.module, "dropout_rate", rate)


def apply(model: LinenModel, task: Task, mode: Mode, variables: Any, batch: Batch, step: Any = 0) -> tuple[Any, Any]:
    """Output and changed collections of one call."""
    method = model.evaluate if mode == "eval" else model.train
    with nullcontext() if mode == "dropout" else nn.intercept_methods(undropped):
        return model.module.apply(variables, batch, method=method, mutable=kept(variables), rngs=streams(task, step))


def loss(call: Apply, task: Task, params: Any, collections: Any, batch: Batch, step: Any) -> tuple[Any, Any]:
    """The loss of one call; its terms and the collections that the call changed. call: `apply` of a model in a mode."""
    output, changed = call({"params": params, **collections}, batch, step)
    terms = task.loss(output, batch)
    return total(terms), (terms, changed)
