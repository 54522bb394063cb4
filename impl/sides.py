"""The one table that turns the three migration flags into a side."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from impl.config import ConfigError, ModelConfig

__all__ = ["FLAGS", "SIDES", "address", "resolve", "side"]

FLAGS: dict[tuple[bool, bool, bool], str] = {
    (False, False, False): "linen",
    (False, True, False): "linen_nnx_linen",
    (False, True, True): "linen_nnx",
    (True, True, False): "nnx_linen",
    (True, True, True): "nnx",
}
"""(pure_nnx, enable_nnx, pure_nnx_decoder) -> side. Bridged sides are named from the outside in."""

SIDES: dict[str, str] = {
    "linen": "impl.linen",
    "linen_nnx_linen": "impl.bridged.linen_nnx_linen",
    "linen_nnx": "impl.bridged.linen_nnx",
    "nnx_linen": "impl.bridged.nnx_linen",
    "nnx_linen_dots": "impl.bridged.nnx_linen_dots",
    "nnx": "impl.nnx",
}
"""side -> the module that implements it. All offer the same names; no flag selects "nnx_linen_dots"."""

_REASONS = {
    "enable_nnx": "pure_nnx or pure_nnx_decoder without enable_nnx asks for NNX modules with NNX switched off",
}


def resolve(config: ModelConfig) -> str:
    """The side that the flags of `config` select. Raises ConfigError for a combination that makes no sense."""
    flags = (config.pure_nnx, config.enable_nnx, config.pure_nnx_decoder)
    if flags not in FLAGS:
        known = "; ".join(f"{name}: {key}" for key, name in FLAGS.items())
        raise ConfigError(
            f"(pure_nnx, enable_nnx, pure_nnx_decoder) = {flags}: {_REASONS['enable_nnx']}. Choose one of {known}"
        )
    return FLAGS[flags]


def address(name: str) -> str:
    """The import path of the side `name`. Raises ConfigError for one that is not in SIDES."""
    if name not in SIDES:
        raise ConfigError(f"no side is called {name!r}: there are {', '.join(SIDES)}")
    return SIDES[name]


def side(name: str) -> ModuleType:
    """The module that implements the side `name`; it is imported only when asked for."""
    return import_module(address(name))
