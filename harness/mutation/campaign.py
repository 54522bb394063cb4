"""Run mutants: first the proofs of each, then the quick cases, a few more each round, until one of them notices.

Of a mutant whose statement a graph runs, and whose every graph is proved equal, only the quickest case of each scenario
is run: values cannot differ where they are proved equal, but names, shardings or what is kept on disk still could.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.discover import Ticket
from harness.faults.record import ATTESTATION
from harness.faults.trial import GIBIBYTES
from harness.faults.work import ORDER
from harness.mutation.record import Mutant, MutationError, Outcome
from harness.mutation.subject import Subject
from harness.runner import Event, Work, run
from harness.verdict import Ending, Rung, Verdict

__all__ = ["Show", "outcome", "tried_out"]

CASES, GRAPHS = "harness.faults.work:noticed", "harness.mutation.work:graphs"
BASELINE = "baseline"
PATIENCE = 60.0, 10.0
"""A mutant's case may take so many seconds, and so many times as long as without it, before it counts as hung."""

Show = Callable[[int], AbstractContextManager[Callable[[Event], None]]]
"""Number of cases -> what is told of each event while they run."""


@dataclass
class _Patient:
    """A mutant under way. due: cases still to be run, in order. proofs: of its graphs. ran: verdicts so far."""

    mutant: Mutant
    due: list[Ticket]
    proofs: Verdict
    ran: list[Verdict] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class _Room:
    """folder: of the trials. jobs: worker processes."""

    folder: Path
    jobs: int
    show: Show

    def run(self, tickets: Sequence[Ticket], function: str) -> list[Verdict]:
        work = Work(goldens="", pending=str(self.folder), function=function)
        with self.show(len(tickets)) as tell:
            return run(tickets, self.jobs, work, tell)


def tried_out(chosen: Sequence[Mutant], subject: Subject, jobs: int, show: Show) -> list[Outcome]:
    """The outcome of each mutant, in order. Every trial runs in a worker of its own, on copies that are removed.

    The code as it is runs first: it must pass each case, and every graph must be proved of it, else nothing that a
    mutant does could be told from it. Raises MutationError with the case or graph.
    """
    with tempfile.TemporaryDirectory(prefix="harness-mutants-") as folder:
        room = _Room(folder=Path(folder), jobs=jobs, show=show)
        _laid_out(chosen, subject, room.folder)
        found = room.run([_graphs(name, subject) for name in (BASELINE, *(each.id for each in chosen))], GRAPHS)
        cases = _baseline(subject, found[0], room)
        patients = [
            _Patient(mutant=mutant, due=[_named(mutant.id, case) for case in _due(cases, proofs)], proofs=proofs)
            for mutant, proofs in zip(chosen, found[1:], strict=True)
        ]
        most = 1
        while alive := [each for each in patients if each.due]:
            _round(alive, most, room)
            most *= 2
    return [outcome(each.mutant, each.proofs, each.ran) for each in patients]


def _baseline(subject: Subject, proved: Verdict, room: _Room) -> list[Ticket]:
    """The cases of the code as it is, the quickest first, with limits of time by what they took."""
    if proved.rung is not Rung.PROVED and proved.ending is not Ending.NOTHING_COMPARED:
        reason = proved.why_not_higher or proved.detail
        raise MutationError(f"graphs are not proved equal even without a mutant, so none shows anything: {reason}")
    verdicts = room.run([_named(BASELINE, ticket) for ticket in subject.tickets], CASES)
    for verdict in verdicts:
        if not verdict.passed:
            reason = f"{verdict.ending or verdict.rung}: {verdict.why_not_higher} {verdict.detail}"
            raise MutationError(f"{verdict.case.partition(' ')[2]} fails without a mutant: mend it first. {reason}")
    least, times = PATIENCE
    timed = sorted(zip(subject.tickets, verdicts, strict=True), key=lambda pair: pair[1].seconds)
    return [replace(ticket, seconds=min(ticket.seconds, least + times * took.seconds)) for ticket, took in timed]


def _due(cases: Sequence[Ticket], proofs: Verdict) -> list[Ticket]:
    """The quickest case of each scenario, then the others unless the proofs speak for them."""
    quickest: dict[str, Ticket] = {}
    for case in cases:
        quickest.setdefault(case.scenario, case)
    first = list(quickest.values())
    settled = proofs.rung is Rung.PROVED and not proofs.not_compared
    return first if settled else first + [case for case in cases if case not in first]


def _round(alive: Sequence[_Patient], most: int, room: _Room) -> None:
    """The next cases of each, `most` of them. Who is noticed is due no more."""
    batch = [(each, ticket) for each in alive for ticket in each.due[:most]]
    verdicts = room.run([ticket for _, ticket in batch], CASES)
    for (each, ticket), verdict in zip(batch, verdicts, strict=True):
        if ticket in each.due:
            each.due.remove(ticket)
            each.ran.append(verdict)
        if not verdict.passed:
            each.due.clear()


def _named(name: str, ticket: Ticket) -> Ticket:
    return replace(ticket, case=f"{name} {ticket.case}", gibibytes=min(ticket.gibibytes, GIBIBYTES))


def _graphs(name: str, subject: Subject) -> Ticket:
    return replace(_named(name, subject.tickets[0]), case=f"{name} graphs")


def _laid_out(chosen: Sequence[Mutant], subject: Subject, folder: Path) -> None:
    """A folder for the code as it is and one for each mutant: a copy of the package, and the worker's order.

    Mutants are copied from the first copy, so that all trials see the code of one moment.
    """
    package = subject.package
    shutil.copytree(subject.root / package, folder / BASELINE / package, ignore=shutil.ignore_patterns("__pycache__"))
    order = {"packages": [package], "settings": {}, "seed": 0, "cells": subject.cells, "file": "", "lines": (0, 0)}
    (folder / BASELINE / ORDER).write_text(json.dumps(order), encoding="utf-8")
    for mutant in chosen:
        place = folder / mutant.id
        shutil.copytree(folder / BASELINE / package, place / package)
        path = place / mutant.file
        path.write_bytes(mutant.made(path.read_bytes().decode()).encode())
        own = {**order, "file": mutant.file, "lines": mutant.lines}
        (place / ORDER).write_text(json.dumps(own), encoding="utf-8")


def outcome(mutant: Mutant, proofs: Verdict, ran: Sequence[Verdict]) -> Outcome:
    """What the proofs of a mutant and its cases, in the order in which they were run, come to."""
    killer = next((verdict for verdict in ran if not verdict.passed), None)
    known = Outcome(
        mutant=mutant,
        status="survived",
        graphs=len(proofs.proofs),
        cases=len(ran),
        seconds=round(proofs.seconds + sum(verdict.seconds for verdict in ran), 1),
        detail=proofs.why_not_higher or proofs.detail,
    )
    if killer:
        channel, place = _where(killer)
        case, rung = killer.case.partition(" ")[2], str(killer.ending or killer.rung)
        return replace(known, status="killed", case=case, channel=channel, place=place, rung=rung)
    if proofs.rung is not Rung.PROVED:
        return known
    unseen = proofs.not_compared.get("graphs", "")
    return replace(known, status="unseen" if unseen else "equivalent", detail=unseen)


def _where(verdict: Verdict) -> tuple[str, str]:
    """The channel in which a mutant showed, and the place: a module, the claim, the error, or the ending's sentence."""
    first = verdict.first
    if verdict.ending is Ending.REFUSED or first is None:
        return ATTESTATION if verdict.ending is Ending.REFUSED else "", verdict.detail
    if first.reason == "error":
        return first.channel, f"{first.left} | {first.right}"
    return first.channel, first.name if first.reason == "claim" else verdict.module or first.name
