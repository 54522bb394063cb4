"""Watches which module classes have a method called while a program is traced, and of which framework.

The code base need not cooperate. On Python 3.12 and later every function that starts is looked at once, for next to
nothing. Before that the same hook makes tracing twice as slow, so first only the calls of modules are watched: Linen's
through its own interceptor, NNX's by wrapping the methods of every class that is loaded. `thoroughly` looks at every
function on any version; it is used where the quick look does not find what a side declares.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import CodeType, FrameType, FunctionType
from typing import Any

__all__ = ["Witness", "thoroughly", "witnessed"]

_OURS = (4, 3)
"""sys.monitoring tool ids: 0, 1, 2 and 5 are spoken for by debuggers, coverage, profilers and optimisers."""


class Witness:
    """Collects (framework, class name) pairs while it is switched on."""

    def __init__(self) -> None:
        from flax import linen, nnx

        self._bases = (("linen", linen.Module), ("nnx", nnx.Module))
        self._seen: set[CodeType] = set()
        self.found: set[tuple[str, str]] = set()

    def note(self, module: object) -> bool:
        """Remember the class of `module` if it is a Flax module, and say whether it is."""
        found = [framework for framework, base in self._bases if isinstance(module, base)]
        self.found.update((framework, f"{type(module).__module__}.{type(module).__qualname__}") for framework in found)
        return bool(found)

    def look(self, frame: FrameType) -> bool:
        """Note `frame`'s first argument, and say whether it is a Flax module."""
        code = frame.f_code
        return bool(code.co_argcount) and self.note(frame.f_locals.get(code.co_varnames[0]))

    def on_profile(self, frame: FrameType, event: str, _argument: Any) -> None:
        """Hook for sys.setprofile: code whose first argument was no module is not looked at again."""
        if event == "call" and frame.f_code not in self._seen and not self.look(frame):
            self._seen.add(frame.f_code)

    def on_start(self, _code: CodeType, _offset: int) -> Any:
        """Hook for sys.monitoring: code whose first argument was no module is never reported again."""
        return None if self.look(sys._getframe(1)) else sys.monitoring.DISABLE  # type: ignore[attr-defined, unused-ignore]


@contextmanager
def witnessed() -> Iterator[Witness]:
    """A Witness that sees the calls of modules during the block, as cheaply as this Python allows."""
    witness = Witness()
    with _monitoring(witness) if hasattr(sys, "monitoring") else _calls(witness):
        yield witness


@contextmanager
def thoroughly() -> Iterator[Witness]:
    """A Witness that sees every Python function that starts during the block."""
    witness = Witness()
    with _monitoring(witness) if hasattr(sys, "monitoring") else _profiling(witness):
        yield witness


@contextmanager
def _monitoring(witness: Witness) -> Iterator[None]:
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined, unused-ignore]
    tool = next((each for each in _OURS if monitoring.get_tool(each) is None), _OURS[0])
    monitoring.use_tool_id(tool, "linen-nnx-harness")
    monitoring.register_callback(tool, monitoring.events.PY_START, witness.on_start)
    monitoring.set_events(tool, monitoring.events.PY_START)
    monitoring.restart_events()
    try:
        yield
    finally:
        monitoring.set_events(tool, 0)
        monitoring.register_callback(tool, monitoring.events.PY_START, None)
        monitoring.free_tool_id(tool)


@contextmanager
def _profiling(witness: Witness) -> Iterator[None]:
    before = sys.getprofile()
    sys.setprofile(witness.on_profile)
    try:
        yield
    finally:
        sys.setprofile(before)


@contextmanager
def _calls(witness: Witness) -> Iterator[None]:
    from flax import linen, nnx

    def intercept(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        witness.note(context.module)
        return call(*args, **kwargs)

    with ExitStack() as stack:
        stack.enter_context(linen.intercept_methods(intercept))
        for cls in _subclasses(nnx.Module):
            _wrap(cls, witness, stack)
        # A side may import its modules only when it runs.
        module: type = nnx.Module
        owner: Any = next(base for base in module.__mro__ if "__init_subclass__" in vars(base))
        born = vars(owner)["__init_subclass__"]

        def subclassed(cls: type, **options: Any) -> None:
            born.__get__(None, cls)(**options)
            if issubclass(cls, module):
                _wrap(cls, witness, stack)

        owner.__init_subclass__ = classmethod(subclassed)
        stack.callback(setattr, owner, "__init_subclass__", born)
        yield


def _wrap(cls: type, witness: Witness, stack: ExitStack) -> None:
    """Every public method of `cls` notes its module, until `stack` is left."""
    for name, method in list(vars(cls).items()):
        if isinstance(method, FunctionType) and (name == "__call__" or not name.startswith("_")):
            setattr(cls, name, _noting(method, witness))
            stack.callback(setattr, cls, name, method)


def _noting(method: FunctionType, witness: Witness) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        witness.note(self)
        return method(self, *args, **kwargs)

    return call


def _subclasses(cls: type) -> set[type]:
    """Every class loaded so far that derives from `cls`."""
    below: set[type] = set(cls.__subclasses__())
    return below.union(*(_subclasses(each) for each in below)) if below else below
