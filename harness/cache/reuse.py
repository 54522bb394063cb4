"""Which cases need not be run again, which of them are run all the same as an audit, and what came of it."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.cache import store
from harness.cache.circumstances import circumstances
from harness.cache.code import code_of
from harness.cache.traced import noted_roots
from harness.digest import of_settings
from harness.discover import Ticket
from harness.golden.store import body_path, header_path
from harness.report import Reuse
from harness.scenario import Scenario
from harness.verdict import Ending, Verdict
from harness.verdict_json import to_json

__all__ = ["NOTING", "Plan", "Request", "planned", "settled"]

NOTING = {"harness.verify:verify": "harness.cache.traced:verify"}
"""What workers do -> what does the same and leaves a note on the code that it ran."""

AUDITED = 10
"""One of so many reusable cases is run all the same."""

COMPARED = ("rung", "ending", "moved", "first", "parity", "drift", "case_digest")
"""What an audited verdict must have in common with the stored one, beside the graphs."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """how: "fresh" runs everything and only writes. begun: when this process had read nothing yet, in seconds since
    the epoch. seed: of the audit. folder: where verdicts are kept."""

    how: Literal["reuse", "fresh"]
    goldens: Path
    folder: Path
    begun: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run will do. parts: case -> what is known of its key before it runs, all but the code.

    entries: case -> what is stored for it. fit: cases whose entry holds today. audited: those of them that are run all
    the same. codes: root -> digest, as far as it was taken.
    """

    request: Request
    tickets: tuple[Ticket, ...]
    parts: Mapping[str, Mapping[str, str]]
    entries: Mapping[str, store.Entry]
    fit: frozenset[str] = frozenset()
    audited: tuple[str, ...] = ()
    codes: Mapping[str, str] = field(default_factory=dict)

    @property
    def due(self) -> tuple[Ticket, ...]:
        """The tickets to run, in order."""
        return tuple(each for each in self.tickets if each.case not in self.fit or each.case in self.audited)


def planned(tickets: Sequence[Ticket], scenarios: Mapping[str, Scenario], request: Request) -> Plan:
    """What to run of `tickets`. scenarios: name -> scenario."""
    around = circumstances(os.environ)
    golden = {name: _golden(request.goldens, name) for name in {ticket.scenario for ticket in tickets}}
    parts = {
        ticket.case: {
            "case": of_settings(
                {"ticket": dataclasses.replace(ticket, quick=True), "scenario": scenarios[ticket.scenario]}
            ),
            "golden": golden[ticket.scenario],
            **around,
        }
        for ticket in tickets
    }
    found = {ticket.case: store.read(request.folder, _name(ticket, request)) for ticket in tickets}
    entries = {case: entry for case, entry in found.items() if entry is not None and entry.case == case}
    codes = {root: code_of(root).digest for root in {root for entry in entries.values() for root in entry.roots}}
    holds = {
        case for case, entry in entries.items() if entry.parts == {**parts[case], "code": _code(entry.roots, codes)}
    }
    fit = frozenset(holds if request.how == "reuse" else ())
    count = -(-len(fit) // AUDITED)
    drawn = set(random.Random(request.seed).sample(sorted(fit), count))
    return Plan(
        request=request,
        tickets=tuple(tickets),
        parts=parts,
        entries=entries,
        fit=fit,
        audited=tuple(ticket.case for ticket in tickets if ticket.case in drawn),
        codes=codes,
    )


def settled(plan: Plan, run: Sequence[Verdict], notes: Path) -> tuple[list[Verdict], Reuse]:
    """All verdicts in the order of the tickets, and what was reused; new ones are stored.

    run: verdicts of `plan.due`. notes: what their workers noted. An audited case whose verdict is not the stored one
    ends in ERROR unless it fails by itself, and its entry is removed.
    """
    fresh = {verdict.case: verdict for verdict in run}
    failed = {}
    for ticket in plan.tickets:
        case = ticket.case
        if case in plan.audited and case in fresh and (what := _differing(plan.entries[case].verdict, fresh[case])):
            failed[case] = what
            fresh[case] = _denounced(fresh[case], what)
            store.remove(plan.request.folder, _name(ticket, plan.request))
    _store(plan, {case: verdict for case, verdict in fresh.items() if case not in plan.fit}, notes)
    reused = tuple(case for case in plan.parts if case in plan.fit and case not in fresh)
    everything = {**{case: plan.entries[case].verdict for case in reused}, **fresh}
    changed = {case: _reason(plan, case) for case in fresh if case in plan.entries and case not in plan.fit}
    recoded = [case for case, reason in changed.items() if reason == "code"]
    return [everything[ticket.case] for ticket in plan.tickets if ticket.case in everything], Reuse(
        reused=reused,
        audited=plan.audited,
        failed=failed,
        seed=plan.request.seed,
        again=dict(Counter(changed.values())),
        unchanged=sum(_same_graphs(plan.entries[case].verdict, fresh[case]) for case in recoded),
    )


def _name(ticket: Ticket, request: Request) -> str:
    """The name of a case's entry: one for each place and interpreter that it is run in."""
    where = (ticket.case, ticket.pair, ticket.folder, str(request.goldens), os.getcwd(), sys.prefix)
    return of_settings(where)[:32]


def _golden(folder: Path, scenario: str) -> str:
    found = [f"{folder.is_dir()}"]
    for path in (header_path(folder, scenario), body_path(folder, scenario)):
        try:
            found.append(hashlib.sha256(path.read_bytes()).hexdigest())
        except OSError as problem:
            found.append(type(problem).__name__)
    return of_settings(found)


def _code(roots: Sequence[str], codes: Mapping[str, str]) -> str:
    """One digest for all the code, "" if that of a root cannot be had."""
    if not roots or not all(codes.get(root) for root in roots):
        return ""
    return of_settings({root: codes[root] for root in roots})


def _reason(plan: Plan, case: str) -> str:
    """The first part of the key that is not as stored; "asked" if all are, but a fresh run was asked for."""
    entry = plan.entries[case]
    now = {**plan.parts[case], "code": _code(entry.roots, plan.codes)}
    return next((part for part in now if now[part] != entry.parts.get(part)), "asked")


def _differing(stored: Verdict, found: Verdict) -> str:
    """What an audit found otherwise than stored, in words; "" if nothing."""
    before, after = to_json(stored), to_json(found)
    for name in COMPARED:
        if before[name] != after[name]:
            short = [str(text)[:60] for text in (before[name], after[name])]
            return f"{name} was {short[0]}, is {short[1]}" if short[0] != short[1] else f"{name} is another"
    graphs = [
        {each.part: (each.digests, each.equal, each.marks) for each in verdict.proofs} for verdict in (stored, found)
    ]
    return "" if graphs[0] == graphs[1] else "what it compiles is another graph"


def _same_graphs(stored: Verdict, found: Verdict) -> bool:
    before, after = ({each.part: each.digests for each in verdict.proofs} for verdict in (stored, found))
    return bool(before) and before == after and all(all(digests) for digests in before.values())


def _denounced(verdict: Verdict, what: str) -> Verdict:
    """A verdict that an audit found to differ from the stored one: it does not pass."""
    text = f"an audit found another verdict than the stored one, though nothing that it rests on changed: {what}"
    text = f"{text}; the entry was removed, run with --fresh"
    detail = "; ".join(each for each in (verdict.detail, text) if each)
    return dataclasses.replace(verdict, ending=Ending.ERROR if verdict.passed else verdict.ending, detail=detail)


def _store(plan: Plan, fresh: Mapping[str, Verdict], notes: Path) -> None:
    """Keeps what passed, unless its code or golden was changed while it ran; forgets what no longer passes."""
    request, codes = plan.request, dict[str, str]()
    for ticket in plan.tickets:
        verdict = fresh.get(ticket.case)
        if verdict is None:
            continue
        name, roots = _name(ticket, request), noted_roots(notes, ticket.case)
        codes |= {root: _settled_code(plan, root) for root in roots if root not in codes}
        parts = {**plan.parts[ticket.case], "code": _code(roots, codes)}
        if not verdict.passed or not parts["code"] or _golden(request.goldens, ticket.scenario) != parts["golden"]:
            store.remove(request.folder, name)
            continue
        try:
            store.keep(request.folder, name, store.Entry(case=ticket.case, parts=parts, roots=roots, verdict=verdict))
        except OSError as problem:
            why = f"{type(problem).__name__}: {problem.strerror or problem}"
            print(f"harness: verdicts are not kept, {request.folder} cannot be written ({why})", file=sys.stderr)
            return
    store.shrink(request.folder)


def _settled_code(plan: Plan, root: str) -> str:
    """The digest of a root that was not touched since this process began; else "": nobody knows what ran."""
    code = code_of(root)
    early = plan.codes.get(root, code.digest)
    return code.digest if code.changed < plan.request.begun - 0.02 and early == code.digest else ""
