"""The way from one NNX module to another that it calls, by the names of attributes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["found"]


def found(caller: Any, called: Any, copies: dict[type, int]) -> tuple[str, ...]:
    """Attribute names, indices and keys from `caller` to `called`.

    A module that was split and merged again is another object. It is then told by its class: the n-th copy of a class
    that `caller` calls is taken for the n-th module of that class below it, and again from the first; `copies` counts.
    A module that is nowhere below is called by its class.
    """
    alike = []
    for path, module in _below(caller):
        if module is called:
            return path
        if type(module) is type(called):
            alike.append(path)
    met = copies.get(type(called), 0)
    copies[type(called)] = met + 1
    return alike[met % len(alike)] if alike else (type(called).__name__,)


def _below(root: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every module below `root`, nearest first, lists and dicts looked into."""
    from flax import nnx

    waiting: deque[tuple[tuple[str, ...], Any]] = deque([((), root)])
    seen = {id(root)}
    while waiting:
        path, holder = waiting.popleft()
        for name, value in _parts(holder):
            if id(value) in seen or not isinstance(value, (nnx.Module, list, tuple, dict)):
                continue
            seen.add(id(value))
            way = (*path, str(name))
            if isinstance(value, nnx.Module) and not isinstance(value, (Sequence, Mapping)):
                yield way, value
            waiting.append((way, value))


def _parts(holder: Any) -> list[tuple[Any, Any]]:
    if isinstance(holder, Mapping):
        return list(holder.items())
    if isinstance(holder, Sequence):
        return list(enumerate(holder))
    return list(vars(holder).items())
