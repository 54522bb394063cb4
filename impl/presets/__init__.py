"""Published models as data: one YAML file each, named like the model, its keys the fields of ModelConfig."""

from __future__ import annotations

from importlib import resources

import yaml

from impl.config import ConfigError, ModelConfig
from impl.names import nearest

__all__ = ["preset", "preset_names"]

SUFFIX = ".yml"


def preset_names() -> tuple[str, ...]:
    """Names of the presets, sorted."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(file.name.removesuffix(SUFFIX) for file in files if file.name.endswith(SUFFIX)))


def preset(name: str) -> ModelConfig:
    """The published model called `name`, in its real size, computing in float32 (change it with `overriding`).

    Raises ConfigError for a name that does not exist.
    """
    names = preset_names()
    if name not in names:
        raise ConfigError(nearest(f"no preset is called {name!r}: there are {', '.join(names)}", name, names))
    fields = yaml.safe_load((resources.files(__name__) / f"{name}{SUFFIX}").read_text(encoding="utf-8"))
    # YAML has lists, a frozen record has tuples.
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    return ModelConfig().overriding({"name": name, **settings})
