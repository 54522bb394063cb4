"""What the Linen side of a module pair compiles, as pure functions of arrays by key."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from harness.modules.engine import COUNT, Mode, Slots, Traces, key_parts
from harness.modules.linen_parts import State, apply, flat, loss, variables_of
from harness.modules.spec import LinenModel, Task

__all__ = ["linen_traces"]


def linen_traces(model: LinenModel, task: Task) -> Traces:
    """The traces of a Linen module."""
    return Traces(
        call=partial(_call, model, task),
        grad=partial(_grad, model, task),
        start=partial(_start, model, task),
        step=partial(_step, model, task),
    )


def _call(model: LinenModel, task: Task, stored: Any, batch: Any, mode: Mode) -> tuple[Any, Any]:
    variables = variables_of(stored)
    output, changed = apply(model, task, mode, variables, batch)
    return output, flat({**variables, **changed})


def _grad(model: LinenModel, task: Task, stored: Any, batch: Any, mode: Mode) -> tuple[Any, Any]:
    variables = variables_of(stored)
    params = variables.pop("params", {})
    value = jax.value_and_grad(partial(loss, partial(apply, model, task, mode), task), has_aux=True)
    (_, (terms, _)), grads = value(params, variables, batch, 0)
    return terms, flat({"params": grads})


def _start(model: LinenModel, task: Task, stored: Any) -> Slots:
    variables = variables_of(stored)
    params = variables.pop("params", {})
    return _slots(State.create(apply_fn=model.module.apply, params=params, tx=task.optimizer(), collections=variables))


def _step(model: LinenModel, task: Task, stored: Any, slots: Slots, batch: Any) -> tuple[Any, Any, Slots]:
    variables = variables_of(stored)
    params = variables.pop("params", {})
    fresh = State.create(apply_fn=model.module.apply, params=params, tx=task.optimizer(), collections=variables)
    held = [slots[key_parts(path)] for path, _ in jax.tree.leaves_with_path(fresh.opt_state)]
    state = fresh.replace(opt_state=jax.tree.unflatten(jax.tree.structure(fresh.opt_state), held), step=slots[COUNT])
    value = jax.value_and_grad(partial(loss, partial(apply, model, task, "train"), task), has_aux=True)
    (_, (terms, changed)), grads = value(state.params, state.collections, batch, state.step)
    state = state.apply_gradients(grads=grads, collections={**state.collections, **changed})
    return terms, flat({"params": state.params, **state.collections}), _slots(state)


def _slots(state: State) -> Slots:
    leaves = jax.tree.leaves_with_path(state.opt_state)
    count = jax.numpy.asarray(state.step, "int32")
    return {**{key_parts(path): leaf for path, leaf in leaves}, COUNT: count}
