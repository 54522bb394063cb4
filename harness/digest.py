"""SHA-256 over values and settings, the same on every machine and in every process."""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.observation import Values

__all__ = ["of_array", "of_case", "of_settings", "plain"]


def plain(value: Any) -> Any:
    """`value` as JSON types: records become their fields, arrays a digest, callables their qualified name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        unset = {field.name for field in dataclasses.fields(value) if _unset(field, getattr(value, field.name))}
        return {"record": type(value).__name__, **{name: fields[name] for name in fields if name not in unset}}
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return of_array(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    if isinstance(value, Sequence | set | frozenset):
        items = [plain(item) for item in value]
        return sorted(items, key=str) if isinstance(value, set | frozenset) else items
    return _named(value)


def _unset(field: dataclasses.Field, value: Any) -> bool:
    """Whether a field that is marked as later than the goldens, metadata {"later": True}, has its default."""
    return bool(field.metadata.get("later")) and bool(value == field.default)


def _named(value: Any) -> Any:
    """Whatever else a setting may be: never by its address in memory, which differs in every process."""
    if hasattr(value, "__array__") and not isinstance(value, type):
        return of_array(np.asarray(value))
    if isinstance(value, functools.partial):
        return {"partial": plain(value.func), "args": plain(value.args), "keywords": plain(value.keywords)}
    name = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    code = getattr(value, "__code__", None)
    if code is not None and "<" in name:  # a lambda, or made inside a function: others may bear its name
        constants = [each for each in code.co_consts if isinstance(each, int | float | str | None)]
        return {"function": name, "code": hashlib.sha256(code.co_code).hexdigest(), "constants": constants}
    if callable(value):
        return name
    return {"object": name, **plain(getattr(value, "__dict__", {}))}


def of_settings(settings: Any) -> str:
    """Digest of anything `plain` understands."""
    return hashlib.sha256(json.dumps(plain(settings), sort_keys=True).encode()).hexdigest()


def of_array(array: np.ndarray) -> str:
    """Digest of dtype, shape and bytes."""
    head = f"{array.dtype.name}{array.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()


def of_case(settings: Mapping[str, Any], weights: Values, inputs: Values) -> str:
    """Digest that names a case: what it is set to, and every weight and input bit."""
    arrays = {
        f"{kind}/{name}": of_array(array)
        for kind, values in (("weights", weights), ("inputs", inputs))
        for name, array in values.items()
    }
    return of_settings({"settings": plain(settings), "arrays": arrays})
