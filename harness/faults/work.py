"""What a worker does with one trial: puts the edited packages before all others, then walks the line up to the judge.

Imports nothing that edits may touch before their folder stands in front of `sys.path`. A worker serves one trial only:
that it leaves the path changed tells its parent to replace it.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

from harness.discover import Ticket, settings_of
from harness.faults.record import CatalogueError
from harness.judge import NotHeld
from harness.observation import Observation
from harness.oracle import with_noise
from harness.placing import with_place
from harness.prepare import prepare
from harness.proving import with_proofs
from harness.registry import load_pair
from harness.scenario import Scenario
from harness.verdict import Rung, Verdict
from harness.verify import judged, scenario_of

__all__ = ["ORDER", "folder_of", "noticed", "overridden", "tried"]

ORDER = "order.json"
"""File in a trial's folder: {"packages": edited packages, "settings": dotted path -> value, "seed": added}."""


def folder_of(trials: Path, case: str) -> Path:
    """The folder of the trial called `case`: its first word is the entry's id."""
    return trials / case.partition(" ")[0]


def tried(ticket: Ticket, _goldens: Path, trials: Path) -> Verdict:
    """The verdict of one trial, placed. Its seconds are the whole trial's, without the start of the worker.

    Raises CatalogueError if the packages that were edited are not the ones that were imported.
    """
    return _tried(ticket, trials, with_place)


def noticed(ticket: Ticket, _goldens: Path, trials: Path) -> Verdict:
    """As `tried`, but a divergence is not placed."""
    return _tried(ticket, trials, lambda pair, case, verdict, runs: verdict)


def _tried(ticket: Ticket, trials: Path, place: Callable[..., Verdict]) -> Verdict:
    start = time.monotonic()
    folder = folder_of(trials, ticket.case)
    order = json.loads((folder / ORDER).read_text(encoding="utf-8"))
    _go_first(folder, order["packages"])
    pair = load_pair(ticket.pair)
    _check_imported(folder, order["packages"])
    scenario = overridden(scenario_of(ticket, pair), ticket.label, order["settings"], order["seed"])
    case = prepare(pair, scenario, ticket)
    verdict, runs = judged(pair, case, _hold_nothing)
    # A trial that differs is caught already; one that does not may differ beside its values.
    verdict = with_proofs(pair, case, verdict) if verdict.rung is Rung.BITWISE else verdict
    verdict = place(pair, case, with_noise(pair, case, verdict, runs), runs)
    return replace(verdict, seconds=time.monotonic() - start)


def _hold_nothing(*_runs: Observation) -> NotHeld:
    return NotHeld(because="goldens play no part in a self-test: edited code has none")


def overridden(scenario: Scenario, label: str, settings: Mapping[str, Any], seed: int) -> Scenario:
    """`scenario` as its cell `label` alone, with `settings` (dotted path -> value) laid over it and `seed` added."""
    values: Any = dict(settings_of(scenario, label))
    for path, value in settings.items():
        values = _with(values, path, tuple(value) if isinstance(value, list) else value)
    return replace(scenario, settings=values, matrix={label: {}}, seed=scenario.seed + seed)


def _with(holder: Any, path: str, value: Any) -> Any:
    """`holder`, a mapping or a frozen record, with what `path` names replaced."""
    head, _, rest = path.partition(".")
    if is_dataclass(holder) and not isinstance(holder, type):
        return replace(holder, **{head: _with(getattr(holder, head), rest, value) if rest else value})
    if not isinstance(holder, Mapping) or (rest and head not in holder):
        raise CatalogueError(f"the setting {path!r} leads nowhere: there is only {holder!r}")
    return {**holder, head: _with(holder[head], rest, value) if rest else value}


def _go_first(folder: Path, edited: Sequence[str]) -> None:
    """Puts `folder` in front of the import path. The working folder comes next: `load_pair` would put it first."""
    for package in edited:
        if package in sys.modules:
            raise CatalogueError(f"{package} was imported before its edited copy could be: this worker is not fresh")
    sys.path[:0] = [str(folder), str(Path.cwd())]


def _check_imported(folder: Path, edited: Sequence[str]) -> None:
    for package in edited:
        found = str(importlib.import_module(package).__file__)
        if not Path(found).is_relative_to(folder):
            raise CatalogueError(f"{package} was imported from {found}, not from its edited copy in {folder}")
