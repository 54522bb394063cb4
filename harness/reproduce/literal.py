"""Settings as Python text that makes them again: numbers, containers, records, and whatever can be imported by name."""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.reproduce.plan import ReproductionError

__all__ = ["written"]

_LARGEST = 4096
"""Elements of an array that still reads as text."""

_BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
}


def written(value: Any, place: str, needs: set[str]) -> str:
    """An expression that evaluates to `value` once the modules added to `needs` are imported.

    place: what `value` is, for errors. Raises ReproductionError for what has no such expression (a lambda, an object).
    """
    if value is None or type(value) in (bool, int, str, bytes):
        return repr(value)
    if type(value) is float:
        return repr(value) if np.isfinite(value) else f'float("{value}")'
    if isinstance(value, enum.Enum):
        return f"{_named(type(value), place, needs)}.{value.name}"
    if isinstance(value, Mapping):
        return _mapping(value, place, needs)
    if type(value) is tuple:
        items = [written(item, f"{place}[{at}]", needs) for at, item in enumerate(value)]
        return f"({', '.join(items)}{',' if len(items) == 1 else ''})"
    if type(value) in _BRACKETS:
        return _items(value, place, needs)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _record(value, place, needs)
    if isinstance(value, functools.partial):
        words = [written(item, place, needs) for item in (value.func, *value.args)]
        words += [f"{key}={written(item, place, needs)}" for key, item in value.keywords.items()]
        needs.add("functools")
        return f"functools.partial({', '.join(words)})"
    if isinstance(value, np.dtype):
        needs.update(("ml_dtypes", "numpy"))
        return f'numpy.dtype("{value.name}")'
    if isinstance(value, np.ndarray | np.generic) or (hasattr(value, "__array__") and not isinstance(value, type)):
        return _array(value, place, needs)
    return _named(value, place, needs)


def _mapping(value: Mapping[Any, Any], place: str, needs: set[str]) -> str:
    items = [f"{written(key, place, needs)}: {written(item, f'{place}.{key}', needs)}" for key, item in value.items()]
    return "{" + ", ".join(items) + "}"


def _items(value: Any, place: str, needs: set[str]) -> str:
    opening, closing = _BRACKETS[type(value)]
    items = [written(item, place, needs) for item in value]
    if not items:
        return f"{type(value).__name__}()"
    return opening + ", ".join(items if isinstance(value, list) else sorted(items)) + closing


def _record(value: Any, place: str, needs: set[str]) -> str:
    """Only the fields that are not at their default: that is what a reader wants to know."""
    words = []
    for field in dataclasses.fields(value):
        held = getattr(value, field.name)
        made = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        if field.init and not (type(held) is type(made) and held == made):
            words.append(f"{field.name}={written(held, f'{place}.{field.name}', needs)}")
    return f"{_named(type(value), place, needs)}({', '.join(words)})"


def _array(value: Any, place: str, needs: set[str]) -> str:
    array = np.asarray(value)
    if array.size > _LARGEST or array.dtype.hasobject:
        raise ReproductionError(
            f"{place} is an array {array.dtype}{list(array.shape)}, too large to be written as a setting: hand it over "
            "as a weight or an input"
        )
    needs.update(("ml_dtypes", "numpy"))
    text = repr(array.tolist()).replace("nan", 'float("nan")').replace("inf", 'float("inf")')
    made = f'numpy.array({text}, dtype="{array.dtype.name}")'
    return f"{made}[()]" if isinstance(value, np.generic) else made


def _named(value: Any, place: str, needs: set[str]) -> str:
    """A class, a function or any object that its module knows under its own name."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", getattr(value, "__name__", ""))
    try:
        found = functools.reduce(getattr, name.split("."), importlib.import_module(module or ""))
    except (AttributeError, ImportError, ValueError):
        found = None
    if found is not value or value is None:
        raise ReproductionError(
            f"{place} is {value!r:.120} of type {type(value).__name__}, which cannot be written as text: give it a "
            "name in a module, or put plain numbers and records there"
        )
    needs.add(str(module))
    return f"{module}.{name}" if module != "builtins" else name
