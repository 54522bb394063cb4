"""Every call of a Flax module while a program is traced, with the module's path: Linen's own, NNX's by attributes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from types import FunctionType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from harness.forcing.attributes import found
from harness.forcing.tape import Call, Place, Tape

__all__ = ["normal", "watched"]


def normal(path: tuple[str, ...]) -> tuple[str, ...]:
    """The path with numbers as parts of their own: ("layers_2",) and ("layers", "2") are both ("layers", "2")."""
    parts = [re.fullmatch(r"(.+)_(\d+)", part) for part in path]
    return tuple(
        word for part, match in zip(path, parts, strict=True) for word in (match.groups() if match else [part])
    )


@dataclass
class _Frame:
    """A call under way. base: path of the NNX module that a Linen tree hangs below. copies: class -> how many met."""

    number: int
    place: Place
    path: tuple[str, ...]
    module: Any
    base: tuple[str, ...] | None
    copies: dict[type, int] = field(default_factory=dict)


@contextmanager
def watched(tape: Tape) -> Iterator[None]:
    """Inside, `tape` records the arrays that pass the borders of modules, and may replace them.

    What JAX has traced and not forgotten is not traced again: it is not seen inside, and still calls back afterwards.
    """
    from flax import linen, nnx

    watch = _Watch(tape)

    def intercept(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        if not _counts(context.method_name) or context.module.scope is None:
            return call(*args, **kwargs)
        base = watch.base()
        path = (*base, *context.module.path)
        return watch.passed(call, context.module, context.method_name, path, base, (args, kwargs))

    with ExitStack() as stack:
        stack.enter_context(linen.intercept_methods(intercept))
        for cls in _subclasses(nnx.Module) - {nnx.List, nnx.Dict}:
            for name, method in list(vars(cls).items()):
                if isinstance(method, FunctionType) and _counts(name):
                    setattr(cls, name, _watched(method, name, watch))
                    stack.callback(setattr, cls, name, method)
        yield


def _counts(method: str) -> bool:
    return method == "__call__" or not (method.startswith("_") or method == "setup")


def _watched(method: FunctionType, name: str, watch: _Watch) -> Callable[..., Any]:
    @wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        def original(*args: Any, **kwargs: Any) -> Any:
            return method(self, *args, **kwargs)

        return watch.passed(original, self, name, watch.path(self), None, (args, kwargs))

    return call


class _Watch:
    """The calls under way, innermost last."""

    def __init__(self, tape: Tape):
        self.tape = tape
        self.frames: list[_Frame] = []

    def base(self) -> tuple[str, ...]:
        """What the path of a Linen module that is called now begins with."""
        if not self.frames:
            return ()
        inner = self.frames[-1]
        return inner.path if inner.base is None else inner.base

    def path(self, module: Any) -> tuple[str, ...]:
        """The path of an NNX module that is called now: below the one that calls it."""
        if not self.frames:
            return ()
        inner = self.frames[-1]
        if inner.base is not None or inner.module is module:
            return inner.path
        return (*inner.path, *found(inner.module, module, inner.copies))

    def passed(
        self, function: Any, module: Any, method: str, path: tuple[str, ...], base: tuple[str, ...] | None, given: Any
    ) -> Any:
        """The call, its arguments and its output watched. A call of the same by itself (super, remat) is the same."""
        args, kwargs = given
        place = normal(path), method
        if self.frames and self.frames[-1].place == place:
            return function(*args, **kwargs)
        number = len(self.tape.calls)
        parent = self.frames[-1].number if self.frames else -1
        self.tape.calls.append(Call(place, path, type(module).__name__, parent))
        self.frames.append(_Frame(number, place, path, module, base))
        try:
            if not self.tape.watches(place):
                return function(*args, **kwargs)
            args, kwargs = self._through(number, "arguments", (args, kwargs))
            return self._through(number, "output", function(*args, **kwargs))
        finally:
            self.frames.pop()

    def _through(self, number: int, stream: Any, tree: Any) -> Any:
        leaves, structure = jax.tree.flatten(tree, is_leaf=_opaque)
        at = [index for index, leaf in enumerate(leaves) if _array(leaf)]
        if at:
            for index, leaf in zip(at, self.tape.through(number, stream, [leaves[i] for i in at]), strict=True):
                leaves[index] = leaf
        return jax.tree.unflatten(structure, leaves)


def _opaque(value: Any) -> bool:
    """What must stay the same object: modules, variables and states."""
    from flax import linen, nnx

    return isinstance(value, (linen.Module, nnx.Pytree, nnx.Variable, nnx.State))


def _array(leaf: Any) -> bool:
    if not isinstance(leaf, (jax.Array, np.ndarray)):
        return False
    return any(jnp.issubdtype(leaf.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_))


def _subclasses(cls: type) -> set[type]:
    below: set[type] = set(cls.__subclasses__())
    return below.union(*(_subclasses(each) for each in below)) if below else below
