"""What the NNX side of a module pair compiles, as pure functions of arrays by key: a module is made while tracing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
from flax import nnx

from harness.modules.engine import COUNT, Mode, Slots, Traces, key_parts
from harness.modules.nnx_parts import flat, loss, made, output_of
from harness.modules.spec import NnxModel, Task

__all__ = ["nnx_traces"]


def nnx_traces(model: NnxModel, task: Task) -> Traces:
    """The traces of an NNX module."""
    return Traces(
        call=partial(_call, model),
        grad=partial(_grad, model, task),
        start=partial(_start, model, task),
        step=partial(_step, model, task),
    )


def _call(model: NnxModel, stored: Any, batch: Any, mode: Mode) -> tuple[Any, Any]:
    module = made(model, stored, mode)
    output = output_of(model, module, batch)
    return output, flat(nnx.state(module))


def _grad(model: NnxModel, task: Task, stored: Any, batch: Any, mode: Mode) -> tuple[Any, Any]:
    module = made(model, stored, mode)
    (_, terms), grads = nnx.value_and_grad(partial(loss, model, task, batch), has_aux=True)(module)
    return terms, flat(grads)


def _start(model: NnxModel, task: Task, stored: Any) -> Slots:
    return _slots(nnx.Optimizer(made(model, stored, "train"), task.optimizer(), wrt=nnx.Param))


def _step(model: NnxModel, task: Task, stored: Any, slots: Slots, batch: Any) -> tuple[Any, Any, Slots]:
    module = made(model, stored, "train")
    optimizer = nnx.Optimizer(module, task.optimizer(), wrt=nnx.Param)
    _hold(optimizer, slots)
    (_, terms), grads = nnx.value_and_grad(partial(loss, model, task, batch), has_aux=True)(module)
    optimizer.update(module, grads)
    return terms, flat(nnx.state(module)), _slots(optimizer)


def _hold(optimizer: nnx.Optimizer, slots: Mapping[tuple[str, ...], Any]) -> None:
    """Puts `slots` into a fresh optimizer."""
    is_variable = lambda leaf: isinstance(leaf, nnx.Variable)  # noqa: E731
    for path, leaf in jax.tree_util.tree_leaves_with_path(optimizer.opt_state, is_leaf=is_variable):
        leaf[...] = slots[key_parts(path)]
    optimizer.step[...] = slots[COUNT].astype(optimizer.step.dtype)


def _slots(optimizer: nnx.Optimizer) -> Slots:
    leaves = jax.tree.leaves_with_path(nnx.as_pure(optimizer.opt_state))
    return {**{key_parts(path): leaf for path, leaf in leaves}, COUNT: optimizer.step[...].astype("int32")}
