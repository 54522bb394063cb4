"""What settings ask for: the configuration of model and training, and what a relation lays over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from impl.config import ConfigError, ModelConfig
from impl.math.precision import full
from impl.training.settings import PreferenceSettings, TrainSettings

__all__ = ["ROWS", "config_of", "exact", "precision", "preference_of", "reordered", "training_of"]

ROWS = 3
"""Rows of a batch where nothing else is asked for."""


def config_of(settings: Mapping[str, Any]) -> ModelConfig:
    """The configuration under "config", and laid over it the fields under "overriding"."""
    config = settings.get("config", ModelConfig()).overriding(settings.get("overriding", {}))
    if "float64" in (config.dtype, config.weight_dtype) and full() != "float64":
        raise ConfigError(
            f"{config.name}: dtype={config.dtype}, weight_dtype={config.weight_dtype} in a process whose widest float "
            "is float32: set jax_enable_x64, or choose float32"
        )
    return config


def exact(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` with everything in float64: what an oracle computes. Needs jax_enable_x64 when it is run."""
    wide = {"dtype": "float64", "weight_dtype": "float64"}
    return {**settings, "overriding": {**settings.get("overriding", {}), **wide}}


def training_of(settings: Mapping[str, Any]) -> TrainSettings:
    """The training settings under "train", and laid over them the fields under "retrained"."""
    return replace(settings.get("train", TrainSettings()), **settings.get("retrained", {}))


def preference_of(settings: Mapping[str, Any]) -> PreferenceSettings:
    """The settings of preference optimisation under "preference", switched off where there are none."""
    return settings.get("preference", PreferenceSettings())


def precision(settings: Mapping[str, Any]) -> str:
    """The dtype of computation."""
    return config_of(settings).dtype


def reordered(settings: Mapping[str, Any], inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every batch with its rows the other way round; nothing where each row draws a mask of its own."""
    if config_of(settings).dropout_rate:
        return {}
    return {name: value[::-1] if name.startswith("step") else value for name, value in inputs.items()}
