"""`harness explain SCENARIO`: what it runs and why, what it compares and what not; or what a report says of it."""

from __future__ import annotations

import argparse
import json
import shlex
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.cli.catalogue import Catalogue, add_options, opened, tickets
from harness.cli.usage import UsageError, unknown
from harness.difference import describe
from harness.golden.document import Document
from harness.golden.store import read_document
from harness.report.causes import cause_text, step_text
from harness.report.machine import VERSION
from harness.report.record import excused, reached
from harness.report.words import diverged, why
from harness.scenario import Scenario
from harness.verdict import Verdict
from harness.verdict_json import from_json

__all__ = ["add_parser", "command"]


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `explain`."""
    parser = subparsers.add_parser("explain", help="say what a scenario does, or why a finished run judged it so")
    parser.add_argument("scenario", metavar="SCENARIO")
    parser.add_argument("--report", type=Path, metavar="report.json", help="explain the verdicts of this report")
    add_options(parser)


def command(args: argparse.Namespace) -> int:
    """Prints the explanation."""
    if args.report:
        lines = [line for verdict in _verdicts(args.report, args.scenario) for line in _of_verdict(verdict)]
    else:
        catalogue = opened(args)
        if args.scenario not in catalogue.scenarios:
            raise unknown("scenario", args.scenario, catalogue.scenarios)
        lines = list(_of_scenario(catalogue, args.scenario))
    print("\n".join(lines))
    return 0


def _of_scenario(catalogue: Catalogue, name: str) -> Iterator[str]:
    scenario = catalogue.scenarios[name]
    yield name
    yield _item("why", scenario.why)
    yield _item("pair", catalogue.pair or scenario.pair)
    yield _item("program", scenario.program)
    yield _item("agrees with", _partners(scenario))
    yield _item("settings", ", ".join(f"{key}={value}" for key, value in scenario.settings.items()) or "none")
    yield _item("limits", f"{scenario.seconds:g} s and {scenario.gibibytes:g} GiB for a case; seed {scenario.seed}")
    yield "  cases"
    for ticket in tickets(catalogue, [name]):
        settings = ", ".join(f"{key}={value}" for key, value in scenario.matrix.get(ticket.label, {}).items())
        yield f"    {ticket.case}{' (quick)' if ticket.quick else ''}{': ' + settings if settings else ''}"
    yield _item("compared", _compared(catalogue, name))
    yield "  allowances" + ("" if scenario.allow else ": none; every value must be equal bit by bit")
    for allowance in scenario.allow:
        yield f"    {allowance.pattern} rtol {allowance.rtol:g} atol {allowance.atol:g}, because {allowance.because}"
    yield _item("catches", ", ".join(scenario.faults) or "no fault of the catalogue has been named")
    yield _item("not compared", f"known after a run: harness explain {name} --report report.json")


def _partners(scenario: Scenario) -> str:
    if not scenario.relation:
        return "the other side: " + ", ".join(f"{left} with {right}" for left, right in scenario.sides)
    seconds = [f"{program}({', '.join(f'{k}={v}' for k, v in more.items())})" for program, more in scenario.relation]
    return "on the same side: " + ", ".join(seconds)


def _compared(catalogue: Catalogue, name: str) -> str:
    """Channels and numbers of values, as far as the accepted golden knows them."""
    document = read_document(catalogue.goldens, name)
    if not isinstance(document, Document) or not document.cases:
        return "every value of every channel that the program returns; none is known before a golden is accepted"
    found: Counter[str] = Counter()
    for case in document.cases.values():
        found |= Counter({channel: len(entries) for channel, entries in case.entries.items()})
    return ", ".join(f"{channel} ({number} values)" for channel, number in found.items())


def _verdicts(path: Path, scenario: str) -> list[Verdict]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise UsageError(f"{path} has version {content['version']}, this harness reads {VERSION}: run it again")
        verdicts = [from_json(case["verdict"]) for case in content["scenarios"]]
    except OSError as problem:
        raise UsageError(f"{path} cannot be read: {problem.strerror}: write it with harness run --json") from problem
    except (ValueError, KeyError, TypeError) as problem:
        if isinstance(problem, UsageError):
            raise
        raise UsageError(f"{path} is no report of harness run --json: {problem!r}") from problem
    found = [verdict for verdict in verdicts if verdict.scenario == scenario]
    if not found:
        raise unknown(f"scenario of {path}", scenario, dict.fromkeys(verdict.scenario for verdict in verdicts))
    return found


def _of_verdict(verdict: Verdict) -> Iterator[str]:
    yield f"{verdict.case}: {reached(verdict)}"
    yield _item("why", "it passed" if verdict.passed else why(verdict))
    if diverged(verdict):
        yield _item("to hand on", f"harness reproduce {shlex.quote(verdict.case)}, with the run's --pair")
    if verdict.step:
        yield _item("step", step_text(verdict.step))
    for phrase in cause_text(verdict.forced).split("; ") if verdict.forced else ():
        yield _item("where", phrase)
    if verdict.why_not_higher:
        yield _item("not higher", verdict.why_not_higher)
    if verdict.since_golden:
        most = f"; at most {describe(drift)} (golden first)" if (drift := excused(verdict)) else ""
        yield _item("since the golden", verdict.since_golden + most)
    for each in verdict.proofs:
        count = f"{each.equal} of {each.outputs} outputs equal for all inputs"
        rewrites = f", by {', '.join(each.rewrites)}" if each.rewrites else ""
        yield _item(f"proof of {each.part}", "; ".join(x for x in (count + rewrites, each.parting, *each.marks) if x))
    if parity := verdict.parity:
        for channel, n in parity.channels.items():
            text = f"{n.compared} of {n.expected}, {n.missing} missing, {n.extra} extra, {n.differing} differing"
            yield _item(channel, text)
        for allowance, number in Counter(d.allowed_by for d in parity.differences if d.allowed_by).items():
            yield _item("allowed", f"{number} values by {allowance.pattern}, because {allowance.because}")
    for side, attestation in verdict.attestations.items():
        yield _item(f"ran on {side}", ", ".join(attestation.own) or "no class of its own")
    for what, reason in verdict.not_compared.items():
        yield _item("not compared", f"{what}: {reason}")


def _item(name: str, text: str) -> str:
    return textwrap.fill(f"  {name}: {text}", 110, subsequent_indent="    ", break_long_words=False)
