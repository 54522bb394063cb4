"""What every side compiles for its programs, on abstract values: made when asked for, lowered elsewhere, never run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import jax

from impl import serving_programs
from impl.config import ModelConfig
from impl.presets import preset, preset_names
from impl.programs import FRAMEWORKS
from impl.requested import ROWS, config_of, preference_of, training_of
from impl.sharding.plan import Plan
from impl.sides import side
from impl.staging import Staged

__all__ = ["graphs", "models"]

Settings = Mapping[str, Any]

_SERVED = {
    "decode": ("prefill", "insert", "generate", "sample"),
    "decode_logits": ("prefill", "insert", "generate"),
}

_TRAINED = ("start", "gradients", "step")
_COMPILED = {
    "forward": ("forward",),
    "gradients": ("gradients",),
    "train": _TRAINED,
    "fp8": _TRAINED,
    "qk_clip": _TRAINED,
    "resources": ("step",),
}

_SHARDED = {"sharded": ("start", "step"), "sharded_train": ("start", "step"), "collectives": ("step",)}
"""Programs on the mesh of a plan, which is abstract here."""


def graphs(name: str, settings: Settings) -> dict[str, dict[str, Callable[[], Staged]]]:
    """Program -> part -> what makes the function that the program compiles, on abstract values of the settings' sizes.

    Together the parts are all that a program computes on the device: equal functions of equal inputs, step after step.
    """
    trained = cache(partial(_trained_parts, name, settings))
    served = cache(partial(_served_parts, name, settings))
    found = {program: _each(trained, parts) for program, parts in _COMPILED.items()}
    if len(FRAMEWORKS[name]) == 1:
        found |= {program: _each(served, parts) for program, parts in _SERVED.items()}
        preferred = cache(partial(_preference_parts, name, settings))
        spread = cache(partial(_sharded_parts, name, settings))
        found |= {program: _each(spread, parts) for program, parts in _SHARDED.items()}
        found["dpo"] = _each(preferred, ("evaluate", "gradients", "step"))
    return found


def _each(made: Callable[[], dict[str, Staged]], parts: tuple[str, ...]) -> dict[str, Callable[[], Staged]]:
    return {part: lambda part=part: made()[part] for part in parts}  # type: ignore[misc]


def _trained_parts(name: str, settings: Settings) -> dict[str, Staged]:
    config = config_of(settings)
    made = side(name).Trainer.staged(config, training_of(settings), settings.get("rows", ROWS))
    return {part: staged._replace(function=_at(config, staged.function)) for part, staged in made.items()}


def _sharded_parts(name: str, settings: Settings) -> dict[str, Staged]:
    config = config_of(settings)
    made = side(name).ShardedTrainer.staged_on(
        settings.get("plan", Plan()), config, training_of(settings), settings.get("rows", ROWS)
    )
    return {part: staged._replace(function=_at(config, staged.function)) for part, staged in made.items()}


def _served_parts(name: str, settings: Settings) -> dict[str, Staged]:
    config = config_of(settings)
    made = side(name).Engine.staged(config, settings.get("slots", serving_programs.SLOTS))
    return {part: staged._replace(function=_at(config, staged.function)) for part, staged in made.items()}


def _preference_parts(name: str, settings: Settings) -> dict[str, Staged]:
    config, rows = config_of(settings), settings.get("rows", ROWS)
    trainer = side(name).PreferenceTrainer
    made = trainer.staged_preference(config, training_of(settings), preference_of(settings), rows)
    return {part: staged._replace(function=_at(config, staged.function)) for part, staged in made.items()}


def _at(config: ModelConfig, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`function` traced at the configuration's precision of matrix products, as it is when it runs."""

    def run(values: Any) -> Any:
        with jax.default_matmul_precision(config.matmul_precision):
            return function(values)

    return run


def models() -> dict[str, Callable[[], Settings]]:
    """Name of a preset -> its settings, at full size."""
    return {name: partial(_of_preset, name) for name in preset_names()}


def _of_preset(name: str) -> Settings:
    return {"config": preset(name), "rows": 8}
