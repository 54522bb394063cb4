"""What a worker does with one mutant's graphs: proves them equal to those of a side that was left alone.

As in `harness.faults.work`, a worker serves one trial only and puts the mutated package in front of all others.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from harness.discover import Ticket, discover, settings_of
from harness.faults.work import ORDER, _check_imported, _go_first, folder_of
from harness.mutation.reach import watched
from harness.pair import Pair
from harness.proof import Proof, Proven
from harness.proving import Proved, proofs
from harness.registry import load_pair
from harness.report.proof import divergence_text, marks_text
from harness.scenario import Scenario
from harness.verdict import Ending, Rung, Verdict

__all__ = ["graphs"]


def graphs(ticket: Ticket, _goldens: Path, trials: Path) -> Verdict:
    """The proofs of a mutant: PROVED, or the first program that is not, with the reason in `why_not_higher`.

    The order's "cells" are (scenario, label, left side, right side); the scenario's program is proved at the cell's
    settings, if it offers graphs. `not_compared` holds "graphs" if none of them runs the order's "lines".
    """
    start = time.monotonic()
    folder = folder_of(trials, ticket.case)
    order = json.loads((folder / ORDER).read_text(encoding="utf-8"))
    _go_first(folder, order["packages"])
    pair = load_pair(ticket.pair)
    _check_imported(folder, order["packages"])
    first, last = order["lines"]
    with watched(folder / order["file"], (first, last)) as reach:
        verdict = _proved(pair, ticket, order["cells"])
    left_out = {} if reach.yes else {"graphs": f"none of them runs lines {first} to {last} of {order['file']}"}
    return replace(verdict, not_compared=left_out, seconds=time.monotonic() - start)


def _proved(pair: Pair, ticket: Ticket, cells: list[list[str]]) -> Verdict:
    """Part after part of program after program, until one is not proved."""
    scenarios = discover(Path(ticket.folder)) if ticket.folder else pair.scenarios
    found = Verdict(case=ticket.case, scenario=ticket.scenario, sides=ticket.sides)
    for (name, label, *names), program in _offered(pair, scenarios, cells):
        settings = settings_of(scenarios[name], label)
        sides = pair.sides[names[0]], pair.sides[names[1]]
        try:
            for each in proofs(sides, (settings, settings), program):
                if reason := _difference((names[0], names[1]), each.proof):
                    return _unproved(found, f"{name}[{label}], {program}/{each.part}: {reason}")
                found = replace(found, rung=Rung.PROVED, proofs=(*found.proofs, _short(each)))
        except Exception as problem:  # whatever a mutant raises while it is traced, or NoGraphs
            return _unproved(found, f"{name}[{label}], {program}: {type(problem).__name__}: {problem}")
    if found.rung is None:
        return replace(found, ending=Ending.NOTHING_COMPARED, detail="no program of a quick case offers a graph")
    return found


def _unproved(found: Verdict, reason: str) -> Verdict:
    return replace(found, rung=Rung.DIVERGED, why_not_higher=reason)


def _difference(names: tuple[str, str], proof: Proof) -> str:
    """Why two graphs are not one, constraints and barriers included; "" if they are."""
    if marks := marks_text(names, proof):
        return marks[0]
    if proof.proved:
        return ""
    if absent := (*proof.left_only, *proof.right_only):
        return f"only one side returns {absent[0]}"
    return next((divergence_text(names, each).replace("\n", "; ") for each in proof.unequal.values()), "no outputs")


def _short(each: Proved) -> Proven:
    proof = each.proof
    return Proven(
        part=f"{each.program}/{each.part}",
        equal=len(proof.equal),
        outputs=proof.outputs,
        operations=proof.operations,
        rewrites=proof.rewrites,
        parting="",
        marks=(),
        seconds=sum(each.lowering) + proof.seconds,
    )


def _offered(pair: Pair, scenarios: Mapping[str, Scenario], cells: list[list[str]]) -> Iterator[tuple[list[str], str]]:
    """Each cell with the program that is its own; the first of them with every program that no cell runs, too.

    Where one side's keys are replayed on the other, the sides derive their own by design: no proof can hold there.
    """
    cells = [cell for cell in cells if scenarios[cell[0]].draws != "replayed"]
    own = {scenarios[name].program for name, *_ in cells}
    others = True
    for cell in cells:
        name, label, left, _ = cell
        offered = pair.sides[left].graphs(settings_of(scenarios[name], label))
        if scenarios[name].program in offered:
            yield cell, scenarios[name].program
            yield from ((cell, program) for program in offered if others and program not in own)
            others = False
