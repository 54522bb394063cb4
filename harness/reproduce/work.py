"""What the worker does with a case that is to be reproduced: judges it, makes it small, and writes down its plan."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from harness import environment
from harness.allowance import Allowance
from harness.case import Case
from harness.difference import describe
from harness.discover import Ticket, discover
from harness.locate import TAPS
from harness.pair import Pair
from harness.prepare import prepare
from harness.registry import load_pair
from harness.reproduce.arrays import packed
from harness.reproduce.literal import written
from harness.reproduce.plan import Plan, Shown, store
from harness.reproduce.reduction import Reduced, located, smallest
from harness.scenario import Run, Scenario
from harness.verdict import Rung, Verdict
from harness.verify import scenario_of, verify_case

__all__ = ["examined"]

NO_GOLDENS = Path("no goldens: smaller runs than a case's own have none")

_PREFIXES = ("JAX_", "XLA_")

_UNRELATED = ("_CACHE_", "_DUMP_", "_LOG")
"""Environment variables that change where JAX writes, not what it computes, have one of these in their names."""


def examined(ticket: Ticket, goldens: Path, folder: Path) -> Verdict:
    """The verdict of `ticket`. Leaves a plan and the case's arrays in `folder`; see `plan.store`."""
    start = time.monotonic()
    pair = load_pair(ticket.pair)
    scenario = scenario_of(ticket, pair)
    case = prepare(pair, scenario, ticket)
    verdict = verify_case(pair, case, goldens, Path(""))
    shown = _shown(ticket, pair, case, verdict)
    arrays, dtypes = packed({"weights": case.weights, "inputs": case.inputs})
    store(folder, replace(_plan(ticket, scenario, pair, shown), dtypes=dtypes), arrays)
    return replace(verdict, seconds=time.monotonic() - start)


def _shown(ticket: Ticket, pair: Pair, case: Case, verdict: Verdict) -> Reduced:
    """What the file is to show: the case made small, or as it is if it does not diverge in a value."""

    def allowances(program: str) -> tuple[Allowance, ...]:
        known = discover(Path(ticket.folder)) if ticket.folder else pair.scenarios
        return tuple(each for scenario in known.values() if scenario.program == program for each in scenario.allow)

    def line(pair: Pair, case: Case) -> Verdict:
        return verify_case(pair, case, NO_GOLDENS, Path(""))

    if verdict.rung is not Rung.DIVERGED or verdict.first is None or verdict.first.channel == "graph":
        return Reduced(case=case, verdict=verdict, first=None, note="")
    whole = Reduced(case=case, verdict=verdict, first=verdict.first, note="")
    return smallest(pair, whole, allowances, line)


def _plan(ticket: Ticket, scenario: Scenario, pair: Pair, shown: Reduced) -> Plan:
    case, first, verdict = shown.case, shown.first, shown.verdict
    values = first is not None and first.reason not in ("claim", "error")
    place = located(pair, case, TAPS) if values else ""
    needs: set[str] = set()
    left, right = (_run(run, needs) for run in case.runs)
    return Plan(
        case=case.name,
        pair=ticket.pair,
        why=scenario.why,
        runs=(left, right),
        settings=_settings(case.settings, needs),
        imports=tuple(sorted(needs)),
        record={name: getattr(case, name) for name in ("scenario", "label", "golden", "seed", "digest", "precision")},
        first=f"{first.channel}/{first.name} ({first.reason})" if first else "",
        described=describe(first) if first else "both runs agree",
        module=place or (verdict.module if values else ""),
        taps=TAPS if place else "",
        notes=_notes(shown),
        allow=tuple((each.pattern, each.rtol, each.atol, each.because) for each in case.allow),
        dtypes={},
        environment=asdict(environment.current()),
        variables=_variables(os.environ),
    )


def _settings(settings: Mapping[str, object], needs: set[str]) -> str:
    """The settings as Python text, one to a line."""
    lines = [f"{key!r}: {written(value, f'setting {key!r}', needs)}," for key, value in settings.items()]
    return "\n".join(("{", *(f"    {line}" for line in lines), "}")) if lines else "{}"


def _run(run: Run, needs: set[str]) -> Shown:
    return Shown(side=run.side, program=run.program, settings=written(run.settings, f"{run.label}: setting", needs))


def _notes(shown: Reduced) -> tuple[str, ...]:
    """What was left out, and the first operation at which what both compile parts."""
    proofs = [each for each in shown.verdict.proofs if each.parting] if shown.first else []
    parting = [f"First operation that differs in {each.part}: {each.parting}" for each in proofs[:1]]
    for root in (Path.cwd(), Path(__file__).resolve().parents[2]):  # where the code lies here tells a stranger nothing
        parting = [text.replace(f"{root}{os.sep}", "") for text in parting]
    return (*([shown.note] if shown.note else []), *parting)


def _variables(surroundings: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that may have changed a number."""
    return {
        name: value
        for name, value in sorted(surroundings.items())
        if name.startswith(_PREFIXES) and not any(part in name for part in _UNRELATED)
    }
