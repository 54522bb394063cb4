"""Find scenarios and expand them into tickets: one per cell of the matrix and pair of sides."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.scenario import Run, Scenario

__all__ = ["DiscoveryError", "Ticket", "discover", "expand", "runs_of", "settings_of"]


class DiscoveryError(ValueError):
    """A scenario file that cannot be used. The message names the file and the cure."""


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """What a worker needs to make and judge one case. `folder` is the scenarios folder, "" for a pair's own scenarios.

    relation: index into Scenario.relation, -1 for a parity. seconds, gibibytes, devices: the worker's limits, and how
    many devices it has.
    """

    case: str
    scenario: str
    label: str
    sides: tuple[str, str]
    pair: str
    folder: str
    quick: bool
    seconds: float
    gibibytes: float
    relation: int = -1
    devices: int = 1


def discover(folder: Path) -> dict[str, Scenario]:
    """File stem -> SCENARIO of every Python file in `folder`, sorted. Raises DiscoveryError."""
    if not folder.is_dir():
        raise DiscoveryError(f"{folder} is not a folder: name the folder that holds the scenario files")
    files = sorted(path for path in folder.glob("*.py") if not path.name.startswith("_"))
    return {path.stem: _load(path) for path in files}


def _load(path: Path) -> Scenario:
    name = f"_harness_scenarios.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise DiscoveryError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as problem:
        raise DiscoveryError(f"{path} cannot be imported: {type(problem).__name__}: {problem}") from problem
    scenario = getattr(module, "SCENARIO", None)
    if not isinstance(scenario, Scenario):
        raise DiscoveryError(f"{path} has no SCENARIO = Scenario(...): it holds {type(scenario).__name__}")
    return scenario


def expand(name: str, scenario: Scenario, *, pair: str = "", folder: str = "") -> tuple[Ticket, ...]:
    """Every case of `scenario`. `pair` overrides the scenario's pair."""
    unknown = [label for label in scenario.quick if label not in (scenario.matrix or {"default": {}})]
    if unknown:
        raise DiscoveryError(
            f"scenario {name!r}: quick={unknown} are no labels of its matrix ({', '.join(scenario.matrix)})"
        )
    tickets = []
    for label in scenario.matrix or {"default": {}}:
        for sides, relation in _combinations(scenario):
            between = (
                ":".join(sides)
                if relation < 0
                else Run(
                    side=sides[0], program=scenario.relation[relation][0], settings=scenario.relation[relation][1]
                ).label
            )
            tickets.append(
                Ticket(
                    case=f"{name}[{label},{between}]",
                    scenario=name,
                    label=label,
                    sides=sides,
                    pair=pair or scenario.pair,
                    folder=folder,
                    quick=not scenario.quick or label in scenario.quick,
                    seconds=scenario.seconds,
                    gibibytes=scenario.gibibytes,
                    devices=scenario.devices,
                    relation=relation,
                )
            )
    return tuple(tickets)


def _combinations(scenario: Scenario) -> list[tuple[tuple[str, str], int]]:
    if not scenario.relation:
        return [(sides, -1) for sides in scenario.sides]
    names = dict.fromkeys(side for sides in scenario.sides for side in sides)
    return [((side, side), index) for side in names for index in range(len(scenario.relation))]


def settings_of(scenario: Scenario, label: str) -> Mapping[str, object]:
    """The settings of one cell: the scenario's, with the cell's laid over them."""
    return {**scenario.settings, **scenario.matrix.get(label, {})}


def runs_of(scenario: Scenario, ticket: Ticket) -> tuple[Run, Run]:
    """The two runs of a ticket."""
    left = Run(side=ticket.sides[0], program=scenario.program)
    if ticket.relation < 0:
        return left, Run(side=ticket.sides[1], program=scenario.program)
    program, settings = scenario.relation[ticket.relation]
    return left, Run(side=ticket.sides[1], program=program, settings=settings)
