"""Where a model's train state lives on a mesh, on any side: what `harness shardings` asks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from impl.requested import config_of, training_of
from impl.sharding.default import DEFAULT
from impl.sharding.mesh import abstract_mesh
from impl.sharding.placement import Placement
from impl.sharding.rules import Rules, read_rules
from impl.sides import side

__all__ = ["rules_of", "shardings"]

Settings = Mapping[str, Any]


def shardings(name: str, settings: Settings, mesh: Mapping[str, int], rules: str) -> dict[str, Placement]:
    """Neutral name -> Placement of every leaf of the train state of the side `name`. No device is needed.

    mesh: axis -> size. rules: a file in MaxText's format; "" for the default rules. Raises ConfigError.
    """
    found = rules_of(rules)
    return side(name).Trainer.placements(config_of(settings), training_of(settings), abstract_mesh(mesh, found), found)


def rules_of(path: str) -> Rules:
    """The rules of a file, or the default ones for "". Raises ConfigError."""
    return read_rules(Path(path)) if path else DEFAULT
