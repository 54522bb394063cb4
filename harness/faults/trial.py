"""One trial: a fault, or a clean variation, in one case. Which ticket it is, and what its verdict says about it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from harness.discover import Ticket, expand
from harness.faults.injection import edited, inject, packages
from harness.faults.record import ATTESTATION, Catalogue, CatalogueError, Fault, Variation
from harness.faults.work import ORDER, folder_of
from harness.scenario import Scenario
from harness.verdict import Ending, Rung, Verdict

__all__ = ["Outcome", "Trial", "checked", "judged", "laid_out", "trials"]

GIBIBYTES = 4.0
"""The most that a trial's worker may use, so that two fit a small machine."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """entry: what is tried. ticket: the case; its name begins with the id of the trial, which is unique."""

    entry: Fault | Variation
    ticket: Ticket


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a trial showed.

    caught: a fault was noticed in the way that it expects; of a variation: it was reported although it is clean.
    placed: caught, and channel and module are the expected ones. channel, module: where it showed, "" if nowhere.
    rung: the rung that was reached, or the ending. detail: a sentence on what happened, for whoever has to mend it.
    """

    entry: Fault | Variation
    scenario: str
    caught: bool
    placed: bool
    channel: str
    module: str
    rung: str
    seconds: float
    detail: str


def trials(catalogue: Catalogue, scenarios: Mapping[str, Scenario]) -> tuple[Trial, ...]:
    """Every trial of the catalogue, faults first. Raises CatalogueError for an id used twice or a case not known."""
    names = [entry.id for entry in catalogue.entries]
    if twice := sorted({name for name in names if names.count(name) > 1 or " " in name}):
        raise CatalogueError(f"ids must be single words, used once: {', '.join(twice)}")
    return tuple(
        Trial(entry=entry, ticket=_ticket(entry.id, number, cell, catalogue, scenarios))
        for entry in catalogue.entries
        for number, cell in enumerate(_cells(entry))
    )


def _cells(entry: Fault | Variation) -> tuple[tuple[str, str], ...]:
    return entry.scenarios if isinstance(entry, Fault) else ((entry.scenario, entry.cell),)


def _ticket(
    name: str, number: int, cell: tuple[str, str], catalogue: Catalogue, scenarios: Mapping[str, Scenario]
) -> Ticket:
    if cell[0] not in scenarios:
        raise CatalogueError(f"{name!r} names the scenario {cell[0]!r}: there are {', '.join(scenarios)}")
    tickets = expand(cell[0], scenarios[cell[0]], pair=catalogue.pair, folder=catalogue.folder)
    found = next(
        (ticket for ticket in tickets if cell[1] == ticket.label or ticket.case.endswith(f"[{cell[1]}]")), None
    )
    if found is None:
        known = ", ".join(ticket.case for ticket in tickets)
        raise CatalogueError(f"{name!r} names the cell {cell[1]!r} of {cell[0]}: there are {known}")
    case = f"{name}{f'.{number}' if number else ''} {found.case}"
    return replace(found, case=case, gibibytes=min(found.gibibytes, GIBIBYTES))


def checked(catalogue: Catalogue) -> None:
    """Raises CatalogueError if any entry's edits can no longer be made, chosen or not: a stale one proves nothing."""
    for entry in catalogue.entries:
        edited(entry.id, entry.edits, catalogue.root)


def laid_out(chosen: Sequence[Trial], root: Path, folder: Path) -> None:
    """Writes a folder for each trial: the edited packages, and the order that its worker reads."""
    for trial in chosen:
        place = folder_of(folder, trial.ticket.case)
        place.mkdir(parents=True)
        entry = trial.entry
        inject(entry.id, entry.edits, root, place)
        settings, seed = (entry.settings, entry.seed) if isinstance(entry, Variation) else ({}, 0)
        order = {"packages": packages(entry.edits), "settings": dict(settings), "seed": seed}
        (place / ORDER).write_text(json.dumps(order), encoding="utf-8")


def judged(trial: Trial, verdict: Verdict) -> Outcome:
    """What `verdict` says about the trial's entry."""
    entry = trial.entry
    shown, channel, module = _shown(verdict)
    if isinstance(entry, Fault):
        caught = shown == entry.expect
        placed = caught and channel == entry.channel and fnmatchcase(module, entry.module)
    else:
        caught = placed = verdict.rung not in (Rung.PROVED, Rung.BITWISE) or verdict.ending is not None
    return Outcome(
        entry=entry,
        scenario=trial.ticket.case.partition(" ")[2],
        caught=caught,
        placed=placed,
        channel=channel,
        module=module,
        rung=str(verdict.ending or verdict.rung),
        seconds=round(verdict.seconds, 1),
        detail=" ".join(part for part in (verdict.why_not_higher, verdict.detail) if part),
    )


def _shown(verdict: Verdict) -> tuple[str, str, str]:
    """How a verdict reports that something is wrong (as Fault.expect, else ""), in which channel, and where."""
    if verdict.ending is Ending.REFUSED:
        return "refused", ATTESTATION, verdict.detail
    first = verdict.first
    if verdict.rung is not Rung.DIVERGED or verdict.ending is not None or first is None:
        return "", "", ""
    if first.reason == "error":
        return "error", first.channel, f"{first.left} | {first.right}"
    if first.reason == "claim":
        return "claim", first.channel, first.name
    return "diverged", first.channel, verdict.module
