"""What settings ask for: the configuration of model and training, and what a relation lays over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from impl.config import ModelConfig
from impl.training.settings import TrainSettings

__all__ = ["ROWS", "config_of", "training_of"]

ROWS = 3
"""Rows of a batch where nothing else is asked for."""


def config_of(settings: Mapping[str, Any]) -> ModelConfig:
    """The configuration under "config", and laid over it the fields under "overriding"."""
    return settings.get("config", ModelConfig()).overriding(settings.get("overriding", {}))


def training_of(settings: Mapping[str, Any]) -> TrainSettings:
    """The training settings under "train", and laid over them the fields under "retrained"."""
    return replace(settings.get("train", TrainSettings()), **settings.get("retrained", {}))
