"""Run trials and say how they went: the measured power of the harness to detect what it was built for."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from harness.discover import discover
from harness.faults.record import Catalogue, Fault
from harness.faults.trial import Outcome, Trial, checked, judged, laid_out, trials
from harness.registry import load_pair
from harness.runner import Event, Work, run

__all__ = ["as_json", "failed", "planned", "sampled", "table", "tried_out"]

WORK = "harness.faults.work:tried"
WIDTH = 64


def planned(catalogue: Catalogue) -> tuple[Trial, ...]:
    """Every trial of a catalogue. Raises CatalogueError if an entry is stale, DiscoveryError, RegistryError."""
    checked(catalogue)
    own = Path(catalogue.folder) if catalogue.folder else None
    return trials(catalogue, discover(own) if own else load_pair(catalogue.pair).scenarios)


def sampled(plan: Sequence[Trial], count: int, seed: int) -> tuple[Trial, ...]:
    """The trials of `count` faults and half as many variations (rounded up), in the plan's order."""
    chance = random.Random(seed)
    faults = sorted({trial.entry.id for trial in plan if isinstance(trial.entry, Fault)})
    clean = sorted({trial.entry.id for trial in plan} - set(faults))
    kept = {*chance.sample(faults, min(count, len(faults))), *chance.sample(clean, min((count + 1) // 2, len(clean)))}
    return tuple(trial for trial in plan if trial.entry.id in kept)


def tried_out(
    chosen: Sequence[Trial], catalogue: Catalogue, jobs: int, on_event: Callable[[Event], None]
) -> list[Outcome]:
    """The outcome of each trial, in order. Each runs in a worker of its own, on a copy that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="harness-faults-") as folder:
        laid_out(chosen, catalogue.root, Path(folder))
        work = Work(goldens="", pending=folder, function=WORK)
        verdicts = run([trial.ticket for trial in chosen], jobs, work, on_event)
    return [judged(trial, verdict) for trial, verdict in zip(chosen, verdicts, strict=True)]


def table(outcomes: Sequence[Outcome]) -> str:
    """Faults, then variations, then what went wrong in sentences, then one line that sums up. Ends with a newline."""
    faults, clean = _parted(outcomes)
    parts = []
    if faults:
        heads = ("fault", "source", "caught", "placed", "channel", "rung", "where it was placed", "seconds")
        parts.append(tabulate([_row(outcome) for outcome in faults], heads, tablefmt="simple", disable_numparse=True))
    if clean:
        rows = [(o.entry.id, o.scenario, "FALSE ALARM" if o.caught else "quiet", o.rung, o.seconds) for o in clean]
        parts.append(tabulate(rows, ("variation", "case", "harness", "rung", "seconds"), tablefmt="simple"))
    parts += [_complaint(outcome) for outcome in outcomes if failed(outcome)]
    parts.append(
        f"Caught {sum(o.caught for o in faults)} of {len(faults)} faults, placed {sum(o.placed for o in faults)}; "
        f"{sum(o.caught for o in clean)} false alarms in {len(clean)} clean variations."
    )
    return "\n\n".join(parts) + "\n"


def failed(outcome: Outcome) -> bool:
    """Whether an outcome speaks against the harness: a fault missed or misplaced, or a false alarm."""
    return not outcome.placed if isinstance(outcome.entry, Fault) else outcome.caught


def as_json(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The outcomes as JSON types. Version 1."""
    faults, clean = _parted(outcomes)
    return {
        "version": 1,
        "faults": [_fault(outcome) for outcome in faults],
        "variations": [_variation(outcome) for outcome in clean],
        "false_alarms": [outcome.entry.id for outcome in clean if outcome.caught],
    }


def _parted(outcomes: Sequence[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
    faults = [outcome for outcome in outcomes if isinstance(outcome.entry, Fault)]
    return faults, [outcome for outcome in outcomes if outcome not in faults]


def _row(outcome: Outcome) -> tuple[str, ...]:
    source = outcome.entry.source if isinstance(outcome.entry, Fault) else ""
    where = outcome.module if len(outcome.module) <= WIDTH else f"{outcome.module[: WIDTH - 1]}…"
    said = ["yes" if value else "NO" for value in (outcome.caught, outcome.placed)]
    return outcome.entry.id, source, *said, outcome.channel, outcome.rung, where, f"{outcome.seconds:.1f}"


def _complaint(outcome: Outcome) -> str:
    entry = outcome.entry
    if not isinstance(entry, Fault):
        return f"{entry.id}: false alarm in {outcome.scenario} ({entry.title}).\n  {outcome.rung}: {outcome.detail}"
    what = "misplaced" if outcome.caught else "not caught"
    due = f"expected {entry.expect} in {entry.channel} at {entry.module!r}"
    got = f"got {outcome.rung} in {outcome.channel or 'no channel'} at {outcome.module!r}"
    return f"{entry.id}: {what} in {outcome.scenario} ({entry.title}).\n  {due}; {got}.\n  {outcome.detail}"


def _fault(outcome: Outcome) -> Mapping[str, Any]:
    entry = outcome.entry
    assert isinstance(entry, Fault)
    return {
        "id": entry.id,
        "title": entry.title,
        "source": entry.source,
        "caught": outcome.caught,
        "placed": outcome.placed,
        "channel": outcome.channel,
        "expected_channel": entry.channel,
        "module": outcome.module,
        "expected_module": entry.module,
        "scenario": outcome.scenario,
        "rung": outcome.rung,
        "seconds": outcome.seconds,
        "detail": outcome.detail,
    }


def _variation(outcome: Outcome) -> Mapping[str, Any]:
    return {
        "id": outcome.entry.id,
        "title": outcome.entry.title,
        "scenario": outcome.scenario,
        "rung": outcome.rung,
        "quiet": not outcome.caught,
        "seconds": outcome.seconds,
        "detail": outcome.detail,
    }
