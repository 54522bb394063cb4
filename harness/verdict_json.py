"""A verdict as plain JSON types and back, without loss. Reports are written from this and read again by `replay`."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from harness.verdict import Verdict

__all__ = ["from_json", "to_json"]


def to_json(verdict: Verdict) -> dict[str, Any]:
    """The verdict as dicts, lists, strings, numbers, booleans and None; floats that are not finite become strings."""
    return _encode(verdict)


def from_json(value: Mapping[str, Any]) -> Verdict:
    """The verdict that `to_json` made `value` from; equal to it in every field.

    Raises ValueError that names the place for an unknown or absent field or a value of another type.
    """
    return _decode(value, Verdict, "verdict")


def _encode(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _encode(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): _encode(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_encode(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value


def _decode(value: Any, wanted: Any, place: str) -> Any:
    """`value` as the type `wanted`, which is read from the records' annotations."""
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        return _decode(value, next(option for option in inner if option is not type(None)), place)
    if origin is Literal:
        if value not in inner:
            raise ValueError(f"{place}: {value!r} is not one of {', '.join(map(repr, inner))}")
        return value
    if origin is tuple:
        _require(value, list, place)
        kinds = [inner[0]] * len(value) if inner[1:] == (...,) else list(inner)
        if len(kinds) != len(value):
            raise ValueError(f"{place}: {len(value)} items where {len(kinds)} belong")
        return tuple(
            _decode(item, kind, f"{place}[{i}]") for i, (item, kind) in enumerate(zip(value, kinds, strict=True))
        )
    if origin is not None and issubclass(origin, Mapping):
        _require(value, Mapping, place)
        return {key: _decode(item, inner[1], f"{place}.{key}") for key, item in value.items()}
    if is_dataclass(wanted):
        return _decode_record(value, wanted, place)
    if issubclass(wanted, Enum):
        return wanted(value)
    return _decode_plain(value, wanted, place)


def _decode_record(value: Any, wanted: Any, place: str) -> Any:
    _require(value, Mapping, place)
    hints, known = get_type_hints(wanted), {field.name: field for field in fields(wanted)}
    if unknown := sorted(set(value) - set(known)):
        raise ValueError(f"{place}: unknown fields {', '.join(unknown)}; known are {', '.join(known)}")
    due = {name for name, field in known.items() if field.default is MISSING and field.default_factory is MISSING}
    if absent := sorted(due - set(value)):
        raise ValueError(f"{place}: fields {', '.join(absent)} are absent")
    return wanted(**{name: _decode(item, hints[name], f"{place}.{name}") for name, item in value.items()})


def _decode_plain(value: Any, wanted: type, place: str) -> Any:
    if isinstance(value, bool) != (wanted is bool):
        raise ValueError(f"{place}: {value!r} is not of type {wanted.__name__}")
    if wanted is float and (isinstance(value, (int, float)) or value in ("inf", "-inf", "nan")):
        return float(value)
    _require(value, wanted, place)
    return value


def _require(value: Any, wanted: type, place: str) -> None:
    if not isinstance(value, wanted):
        raise ValueError(f"{place}: {value!r} is not of type {wanted.__name__}")
