"""The Linen side of a module pair: init, apply and TrainState, as a Linen code base writes them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict

from harness.modules.engine import MASK_CALLS, Drop, Engine, Masks, Mode, Step, Stored, Taps, host, key_parts
from harness.modules.linen_parts import State, apply, flat, kept, loss, streams, undropped, variables_of
from harness.modules.linen_traces import linen_traces
from harness.modules.spec import Batch, LinenModel, Task
from harness.names import Key, Leaf

__all__ = ["linen_engine"]


def linen_engine(model: LinenModel, task: Task) -> Engine:
    """The verbs of a Linen module. "intermediates" are no leaves: they are sown anew by each call."""
    return Engine(
        name="linen",
        leaves=partial(_leaves, model, task),
        rates=partial(_rates, model, task),
        tapped=partial(_tapped, model, task),
        call=partial(_call, model, task),
        grad=partial(_grad, model, task),
        train=partial(_train, model, task),
        masks=partial(_masks, model, task),
        taps=partial(_taps, model, task),
        traces=linen_traces(model, task),
    )


def _init(model: LinenModel, task: Task, batch: Batch) -> dict[str, Any]:
    rngs = {"params": jax.random.key(0), **streams(task, 0)}
    return nn.meta.unbox(dict(model.module.init(rngs, batch, method=model.evaluate)))


def _leaves(model: LinenModel, task: Task, batch: Batch) -> dict[Key, Leaf]:
    """Parameters first, then each in the order in which the modules that own them finish their call."""
    order: list[tuple[str, ...]] = []

    def note(next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
        output = next_fun(*args, **kwargs)
        # A module may have an init or apply of its own, which Linen calls before the module is bound to anything.
        if context.module.scope is not None:
            order.append(context.module.path)
        return output

    with nn.intercept_methods(note):
        shapes = flat(jax.eval_shape(partial(_init, model, task), batch))
    place = {path: index for index, path in reversed(list(enumerate(order)))}

    def position(key: Key) -> tuple[bool, str, int]:
        collection, path = key
        owners = (path[:length] for length in range(len(path), -1, -1))
        return collection != "params", collection, next((place[owner] for owner in owners if owner in place), 0)

    return {key: Leaf.of(shapes[key]) for key in sorted(shapes, key=position)}


def _call(model: LinenModel, task: Task, stored: Stored, batch: Batch, mode: Mode) -> tuple[Any, Stored]:
    return host(jax.jit(lambda held, given: linen_traces(model, task).call(held, given, mode))(stored, batch))


def _grad(model: LinenModel, task: Task, stored: Stored, batch: Batch, mode: Mode) -> tuple[dict[str, Any], Stored]:
    return host(jax.jit(lambda held, given: linen_traces(model, task).grad(held, given, mode))(stored, batch))


def _train(model: LinenModel, task: Task, stored: Stored, batches: Sequence[Batch]) -> list[Step]:
    variables = variables_of(stored)
    params = variables.pop("params", {})
    state = State.create(apply_fn=model.module.apply, params=params, tx=task.optimizer(), collections=variables)

    @jax.jit
    def train_step(state: State, batch: Batch) -> tuple[State, Any]:
        value = jax.value_and_grad(partial(loss, partial(apply, model, task, "train"), task), has_aux=True)
        (_, (terms, changed)), grads = value(state.params, state.collections, batch, state.step)
        return state.apply_gradients(grads=grads, collections={**state.collections, **changed}), terms

    steps = []
    for batch in batches:
        state, terms = train_step(state, batch)
        slots = {key_parts(path): np.array(leaf) for path, leaf in jax.tree.leaves_with_path(state.opt_state)}
        now = host(flat({"params": state.params, **state.collections}))
        steps.append(Step(terms=host(terms), stored=now, slots=slots, step=int(state.step)))
    return steps


def _watch(drops: list[Drop], next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
    """Notes what each dropout did. Values inside a scan are abstract and say nothing, so they are passed over."""
    output = next_fun(*args, **kwargs)
    if context.method_name == "__call__" and isinstance(context.module, nn.Dropout) and context.module.rate > 0:
        before, after = args[0] if args else kwargs["inputs"], output
        if not isinstance(after, jax.core.Tracer):
            for axis in context.module.broadcast_dims:
                before, after = (value.take(jax.numpy.array([0]), axis) for value in (before, after))
            drops.append(Drop(rate=context.module.rate, before=np.array(before), after=np.array(after)))
    return output


def _masks(model: LinenModel, task: Task, stored: Stored, batch: Batch) -> Masks:
    variables = variables_of(stored)
    drops: list[Drop] = []

    def call(method: Any, step: int) -> Any:
        rngs = streams(task, step)
        return host(model.module.apply(variables, batch, method=method, mutable=kept(variables), rngs=rngs)[0])

    with nn.intercept_methods(partial(_watch, drops)):
        train = tuple(call(model.train, step) for step in range(MASK_CALLS))
    evaluate = tuple(call(model.evaluate, step) for step in range(2))
    return Masks(train=train, evaluate=evaluate, drops=tuple(drops))


def _rates(model: LinenModel, task: Task, batch: Batch) -> tuple[float, ...]:
    rates: set[float] = set()

    def note(next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name == "__call__" and isinstance(context.module, nn.Dropout):
            rates.add(float(context.module.rate))
        return next_fun(*args, **kwargs)

    def both(batch: Batch) -> Any:
        variables = _init(model, task, batch)
        with nn.intercept_methods(note):
            mutable = kept(variables)
            return model.module.apply(variables, batch, method=model.train, mutable=mutable, rngs=streams(task, 0))

    jax.eval_shape(both, batch)
    return tuple(sorted(rates - {0.0}))


def _tap(model: LinenModel, task: Task, mode: Mode, variables: Any, batch: Batch) -> Taps:
    order: list[tuple[str, ...]] = []

    def capture(module: nn.Module, method: str) -> bool:
        if method == "__call__":
            order.append(module.path)
        return method == "__call__"

    call = model.evaluate if mode == "eval" else model.train
    with nn.intercept_methods(undropped):
        _, changed = model.module.apply(
            variables,
            batch,
            method=call,
            mutable=[*kept(variables), "intermediates"],
            capture_intermediates=capture,
            rngs=streams(task, 0),
        )
    sown = {(path[:-1], path[-1]): value for path, value in flatten_dict(dict(changed["intermediates"])).items()}
    place = {path: index for index, path in reversed(list(enumerate(order)))}
    return dict(sorted(sown.items(), key=lambda item: (place.get(item[0][0], len(order)), item[0][1] == "__call__")))


def _taps(model: LinenModel, task: Task, stored: Stored, batch: Batch, mode: Mode) -> Taps:
    return host(_tap(model, task, mode, variables_of(stored), batch))


def _tapped(model: LinenModel, task: Task, batch: Batch) -> tuple[tuple[tuple[str, ...], str], ...]:
    keys: list[tuple[tuple[str, ...], str]] = []

    def both(batch: Batch) -> Any:
        taps = _tap(model, task, "eval", _init(model, task, batch), batch)
        keys.extend(taps)
        return list(taps.values())

    jax.eval_shape(both, batch)
    return tuple(keys)
