"""What both sides' staged preference optimisation shares: names of the reference's leaves and of a batch of pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from impl.config import ModelConfig
from impl.training.preference import PreferenceBatch

__all__ = ["REFERENCE", "abstract_pairs", "pairs_of"]

REFERENCE = "reference/"
"""How the names of the reference's parameters begin."""


def abstract_pairs(config: ModelConfig, rows: int) -> dict[str, Any]:
    """The fields of a batch of pairs [rows, max_target_length] by name, with nothing allocated."""
    field = jax.ShapeDtypeStruct((rows, config.max_target_length), "int32")
    return {f"batch/{name}": field for name in PreferenceBatch._fields}


def pairs_of(values: Mapping[str, Any]) -> PreferenceBatch:
    """The batch of pairs among named arrays."""
    return PreferenceBatch(*[values[f"batch/{name}"] for name in PreferenceBatch._fields])
