"""A scenario made concrete: everything that a run needs, in NumPy, with a digest that names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.allowance import Allowance
from harness.observation import Values
from harness.scenario import Run

__all__ = ["Case"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One cell of a scenario's matrix for one pair of runs.

    name: "scenario[label]" plus the sides, unique in a report; `golden` is the part of it that names the golden (the
        ruler's observation does not depend on who it is compared with).
    weights: neutral name -> array, float32 unless the scenario's weight dtype says otherwise.
    inputs: name -> array (tokens, positions, targets...).
    draws: whose keys the second run draws with, see `harness.scenario.Scenario`.
    digest: SHA-256 over settings, weights and inputs.
    precision: dtype name of what is computed in, for the drift of goldens; "" goes by the arrays' own dtypes.
    """

    name: str
    scenario: str
    label: str
    golden: str
    runs: tuple[Run, Run]
    settings: Mapping[str, Any]
    weights: Values
    inputs: Values
    seed: int
    allow: tuple[Allowance, ...]
    digest: str
    precision: str = ""
    draws: str = "own"
