"""The NNX side of a module pair: nnx.jit, nnx.value_and_grad and nnx.Optimizer, as an NNX code base writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.extend.core import get_opaque_trace_state

from harness.modules.engine import MASK_CALLS, Drop, Engine, Masks, Mode, Step, Stored, Taps, host, key_parts
from harness.modules.nnx_parts import create, dropouts, flat, loss, made, output_of
from harness.modules.nnx_traces import nnx_traces
from harness.modules.spec import Batch, NnxModel, Task
from harness.names import Key, Leaf, NameMapError

__all__ = ["nnx_engine"]


def nnx_engine(model: NnxModel, task: Task) -> Engine:
    """The verbs of an NNX module. Random streams and intermediates are no leaves: Linen stores neither."""
    return Engine(
        name="nnx",
        leaves=partial(_leaves, model),
        rates=partial(_rates, model),
        tapped=partial(_tapped, model),
        call=partial(_call, model),
        grad=partial(_grad, model, task),
        train=partial(_train, model, task),
        masks=partial(_masks, model),
        taps=partial(_taps, model),
        traces=nnx_traces(model, task),
    )


def _leaves(model: NnxModel, batch: Batch) -> dict[Key, Leaf]:
    return {key: Leaf.of(array) for key, array in flat(nnx.state(create(model))).items()}


def _rates(model: NnxModel, batch: Batch) -> tuple[float, ...]:
    return tuple(sorted({float(part.rate) for part in dropouts(create(model))} - {0.0}))


def _load(model: NnxModel, stored: Stored, mode: Mode) -> nnx.Module:
    """A fresh module in `mode` that is seen to hold `stored`."""
    module = made(model, stored, mode)
    now = host(flat(nnx.state(module)))
    lost = [key for key, array in stored.items() if now[key].tobytes() != array.tobytes()]
    if lost:
        raise NameMapError([f"nnx {name}/{'/'.join(path)} did not take its weight" for name, path in lost])
    return module


def _call(model: NnxModel, stored: Stored, batch: Batch, mode: Mode) -> tuple[Any, Stored]:
    module = _load(model, stored, mode)
    output = nnx.jit(partial(output_of, model))(module, batch)
    return host(output), host(flat(nnx.state(module)))


def _grad(model: NnxModel, task: Task, stored: Stored, batch: Batch, mode: Mode) -> tuple[dict[str, Any], Stored]:
    @nnx.jit
    def run(module: nnx.Module, batch: Batch) -> Any:
        (_, terms), grads = nnx.value_and_grad(partial(loss, model, task, batch), has_aux=True)(module)
        return terms, grads

    terms, grads = run(_load(model, stored, mode), batch)
    return host(terms), host(flat(grads))


def _train(model: NnxModel, task: Task, stored: Stored, batches: Sequence[Batch]) -> list[Step]:
    module = _load(model, stored, "train")
    optimizer = nnx.Optimizer(module, task.optimizer(), wrt=nnx.Param)

    @nnx.jit
    def train_step(module: nnx.Module, optimizer: nnx.Optimizer, batch: Batch) -> Any:
        (_, terms), grads = nnx.value_and_grad(partial(loss, model, task, batch), has_aux=True)(module)
        optimizer.update(module, grads)
        return terms

    steps = []
    for batch in batches:
        terms = train_step(module, optimizer, batch)
        tree = nnx.as_pure(optimizer.opt_state)
        slots = {key_parts(path): np.array(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}
        now = host(flat(nnx.state(module)))
        steps.append(Step(terms=host(terms), stored=now, slots=slots, step=int(optimizer.step[...])))
    return steps


@contextmanager
def _replaced(kind: Any, around: Callable[[Any], Any]) -> Iterator[None]:
    """NNX has no interceptor like Linen's, so a class's `__call__` is wrapped for a while, as nnx.capture does."""
    original = kind.__call__
    kind.__call__ = wraps(original)(around(original))
    try:
        yield
    finally:
        kind.__call__ = original


def _watching(drops: list[Drop], original: Any) -> Any:
    """Notes what each dropout does. Values inside a scan are abstract and say nothing, so they are passed over."""

    def call(self: nnx.Dropout, inputs: Any, **kwargs: Any) -> Any:
        before, output = inputs, original(self, inputs, **kwargs)
        if self.rate > 0 and not isinstance(output, jax.core.Tracer):
            after = output
            for axis in self.broadcast_dims:
                before, after = (value.take(jax.numpy.array([0]), axis) for value in (before, after))
            drops.append(Drop(rate=self.rate, before=np.array(before), after=np.array(after)))
        return output

    return call


def _sowing(busy: set[int], sows: Callable[[], bool], original: Any) -> Any:
    """Sows a module's output. `busy` holds the modules under way: super().__call__ must not sow a second time."""

    def call(self: nnx.Module, *args: Any, **kwargs: Any) -> Any:
        if id(self) in busy or not sows():
            return original(self, *args, **kwargs)
        busy.add(id(self))
        try:
            output = original(self, *args, **kwargs)
        finally:
            busy.discard(id(self))
        self.sow(nnx.Intermediate, "__call__", output)
        return output

    return call


def _masks(model: NnxModel, stored: Stored, batch: Batch) -> Masks:
    drops: list[Drop] = []
    module = _load(model, stored, "dropout")
    with _replaced(nnx.Dropout, partial(_watching, drops)):
        train = tuple(host(output_of(model, module, batch)) for _ in range(MASK_CALLS))
    module = _load(model, stored, "dropout")
    model.evaluate(module)  # which must turn dropout off by itself
    evaluate = tuple(host(output_of(model, module, batch)) for _ in range(2))
    return Masks(train=train, evaluate=evaluate, drops=tuple(drops))


def _tap(model: NnxModel, made: Callable[[], nnx.Module], batch: Batch) -> Taps:
    """Outputs of all modules, and what they sow. method_outputs of nnx.capture is not enough: it passes over a
    `__call__` that a class inherits, and notes every other public method too.

    A module that a loop carries along (the cell of nnx.RNN) must come out of it as it went in, with nothing sown into
    it: then only modules that are called outside of any transform are noted.
    """
    outside = _tracing()
    try:
        return _sown(model, made(), batch, lambda: True)
    except TypeError:
        return _sown(model, made(), batch, lambda: _tracing() == outside)


def _tracing() -> Any:
    return get_opaque_trace_state(convention="nnx")


def _sown(model: NnxModel, module: nnx.Module, batch: Batch, sows: Callable[[], bool]) -> Taps:
    lines = {type(part).__mro__ for _, part in nnx.iter_modules(module) if callable(part)}
    owners = {next(base for base in line if "__call__" in vars(base)) for line in lines}
    busy: set[int] = set()
    with ExitStack() as stack:
        for owner in owners:
            stack.enter_context(_replaced(owner, partial(_sowing, busy, sows)))
        _, state = nnx.capture(model.call, nnx.Intermediate)(module, batch)
    return {
        (tuple(str(part) for part in path[:-1]), str(path[-1])): variable.get_value()
        for path, variable in nnx.to_flat_state(state)
    }


def _taps(model: NnxModel, stored: Stored, batch: Batch, mode: Mode) -> Taps:
    return host(_tap(model, partial(_load, model, stored, mode), batch))


def _tapped(model: NnxModel, batch: Batch) -> tuple[tuple[tuple[str, ...], str], ...]:
    keys: list[tuple[tuple[str, ...], str]] = []

    def fresh() -> nnx.Module:
        module = create(model)
        model.evaluate(module)
        return module

    def both(batch: Batch) -> Any:
        taps = _tap(model, fresh, batch)
        keys.extend(taps)
        return list(taps.values())

    jax.eval_shape(both, batch)
    return tuple(keys)
