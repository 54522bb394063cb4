"""Values of MaxText's files as numbers, and as what a field of ModelConfig takes."""

from __future__ import annotations

import math
from typing import Any

from impl.config import ConfigError, ModelConfig

__all__ = ["number", "typed"]


def typed(key: str, value: Any) -> Any:
    """`value` as the type of the field: YAML reads 1e-6 as text, and MaxText writes None where there is no cap."""
    default = ModelConfig.__dataclass_fields__[key].default
    if isinstance(default, tuple):
        if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
            return tuple(value)
    elif isinstance(default, bool):
        if isinstance(value, bool):
            return value
    elif isinstance(default, str):
        if isinstance(value, str):
            return value
    elif value is None and key.endswith("soft_cap"):
        return 0.0
    elif not isinstance(value, bool):
        found = number(value)
        if math.isfinite(found) and (isinstance(default, float) or found == int(found)):
            return float(found) if isinstance(default, float) else int(found)
    raise ConfigError(f"{key}={value!r}: expected a {type(default).__name__}, such as {default!r}")


def number(value: Any) -> float:
    """`value` as a number, or NaN."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
