"""Outcomes of mutants on paper: a table, sentences on those that nobody noticed, a line that sums up; and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, get_args

from tabulate import tabulate

from harness.mutation.record import Outcome, Status

__all__ = ["as_json", "survivors", "table"]

HEADS = ("mutant", "at", "operator", "change", "result", "noticed by", "channel", "where", "seconds")
CHANGE, WHERE = 44, 48
MEANING: dict[Status, str] = {
    "survived": "no quick case notices it",
    "unseen": "no quick case notices it, and no graph runs the statement",
    "equivalent": "every graph is proved equal, and no quick case notices it",
}


def survivors(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Mutants that changed a graph, or whose graphs could not be compared, and that no case noticed."""
    return [outcome for outcome in outcomes if outcome.status == "survived"]


def table(outcomes: Sequence[Outcome], possible: int) -> str:
    """possible: how many mutants there are to draw from. Ends with a newline."""
    rows = [_row(outcome) for outcome in outcomes]
    parts = [tabulate(rows, HEADS, tablefmt="simple", disable_numparse=True)]
    parts += [_sentence(outcome) for outcome in outcomes if outcome.status in ("survived", "unseen")]
    count = {status: sum(outcome.status == status for outcome in outcomes) for status in get_args(Status)}
    parts.append(
        f"{len(outcomes)} of {possible} possible mutants: {count['killed']} killed, {count['survived']} survived, "
        f"{count['equivalent']} equivalent by proof, {count['unseen']} unseen."
    )
    return "\n\n".join(parts) + "\n"


def _row(outcome: Outcome) -> tuple[str, ...]:
    mutant = outcome.mutant
    change = f"{_short(mutant.old, CHANGE // 2)} -> {_short(mutant.new, CHANGE // 2)}"
    result = outcome.status if outcome.status != "survived" else "SURVIVED"
    where = _short(outcome.place, WHERE) if outcome.status == "killed" else f"{outcome.graphs} graphs proved equal"
    seen = f"{outcome.case} {outcome.rung}" if outcome.status == "killed" else f"none of {outcome.cases} cases"
    at = f"{mutant.file}:{mutant.line}"
    return mutant.id, at, mutant.operator, change, result, seen, outcome.channel, where, f"{outcome.seconds:.1f}"


def _sentence(outcome: Outcome) -> str:
    mutant = outcome.mutant
    change = f"{mutant.old.strip()!r} became {mutant.new.strip()!r}"
    return f"{mutant.id}: {MEANING[outcome.status]}. {mutant.file}:{mutant.line}: {change}.\n  {outcome.detail}"


def _short(text: str, width: int) -> str:
    line = " ".join(text.split()) or "(nothing)"
    return line if len(line) <= width else f"{line[: width - 1]}…"


def as_json(outcomes: Sequence[Outcome], folder: str, seed: int, possible: int) -> dict[str, Any]:
    """The outcomes as JSON types. Version 1."""
    return {
        "version": 1,
        "folder": folder,
        "seed": seed,
        "possible": possible,
        "counts": {status: sum(each.status == status for each in outcomes) for status in get_args(Status)},
        "mutants": [asdict(outcome) for outcome in outcomes],
    }
