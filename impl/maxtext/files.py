"""Files in MaxText's YAML or JSON, read as keys and values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from impl.config import ConfigError

__all__ = ["read_mapping"]


def read_mapping(path: Path, wanted: str) -> dict[str, Any]:
    """The keys and values of a file. Raises ConfigError, one sentence that ends in what is `wanted`, if it has none."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        reason = " ".join(str(problem).split())[:200]
        raise ConfigError(f"{path}: cannot be read ({reason}): give {wanted}") from problem
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"{path}: holds no keys and values: give {wanted}")
    return content
