"""Proofs of what two sides compile: each part of a program lowered on both, then compared as graphs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.case import Case
from harness.difference import Difference, describe
from harness.pair import NoGraphs, Pair, Side
from harness.proof import Proof, Proven
from harness.report.proof import divergence_text, marks_text
from harness.verdict import Rung, Verdict

if TYPE_CHECKING:
    from harness.recorder import Lowered

__all__ = ["Proved", "proofs", "with_proofs"]

Settings = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Proved:
    """The proof of one part of a program. lowered: what was proved. lowering: seconds that it took, left and right."""

    program: str
    part: str
    proof: Proof
    lowered: tuple[Lowered, Lowered]
    lowering: tuple[float, float]


def proofs(sides: tuple[Side, Side], settings: tuple[Settings, Settings], program: str) -> Iterator[Proved]:
    """One for each part of `program` at each side's settings. Nothing is run.

    Raises NoGraphs if there is none, or if the sides do not offer the same parts.
    """
    from harness.graph.proof import prove

    left, right = (side.graphs(each).get(program, {}) for side, each in zip(sides, settings, strict=True))
    if not left and not right:
        raise NoGraphs(f"program {program!r} offers no graph")
    if left.keys() != right.keys():
        parts = [", ".join(offer) or "none" for offer in (left, right)]
        raise NoGraphs(
            f"program {program!r} compiles different parts: {sides[0].name} {parts[0]}; {sides[1].name} {parts[1]}"
        )
    for part in left:
        start = time.perf_counter()
        first = left[part]()
        middle = time.perf_counter()
        second = right[part]()
        seconds = middle - start, time.perf_counter() - middle
        proof = prove(first, second)
        yield Proved(program=program, part=part, proof=proof, lowered=(first, second), lowering=seconds)


def with_proofs(pair: Pair, case: Case, verdict: Verdict) -> Verdict:
    """`verdict` with proofs of what its two runs compile, and what follows from them.

    Bitwise equal runs whose every part is proved reach PROVED. A sharding constraint or a barrier that only one side
    has is a divergence even so: it changes no value, but memory, or where the values are. Runs that differ keep their
    verdict; the proof then tells the operation at which they part.
    """
    first, second = case.runs
    if first.program != second.program or verdict.rung is None:
        return verdict
    sides = pair.sides[first.side], pair.sides[second.side]
    settings = {**case.settings, **first.settings}, {**case.settings, **second.settings}
    try:
        found = tuple(_short(verdict.sides, each) for each in proofs(sides, settings, first.program))
    except NoGraphs as problem:
        return _unproved(verdict, str(problem))
    except Exception as problem:  # whatever the code base raises while it is traced
        return _unproved(verdict, f"lowering raised {type(problem).__name__}: {problem}")
    verdict = replace(verdict, proofs=found)
    if verdict.rung is not Rung.BITWISE:
        return verdict
    marked = [(each.part, text) for each in found for text in each.marks]
    # Two settings of one side may differ in what they lay on values, and be meant to.
    if marked and first.side != second.side:
        return _diverged(verdict, *marked[0])
    if all(each.proved for each in found):
        return replace(verdict, rung=Rung.PROVED, why_not_higher="")
    worst = next(each for each in found if not each.proved)
    return _unproved(
        verdict, f"{worst.part}: {worst.outputs - worst.equal} of {worst.outputs} outputs: {worst.parting}"
    )


def _unproved(verdict: Verdict, reason: str) -> Verdict:
    return replace(verdict, why_not_higher=f"not PROVED: {reason}") if verdict.rung is Rung.BITWISE else verdict


def _diverged(verdict: Verdict, part: str, text: str) -> Verdict:
    """The values agree, what is laid on them does not."""
    difference = Difference(channel="graph", name=part, reason="text", left=text, right="all values are equal")
    moved = verdict.moved if verdict.moved != "nobody" else verdict.sides[1]
    return replace(
        verdict,
        rung=Rung.DIVERGED,
        first=difference,
        moved=moved,
        module=part,
        why_not_higher=f"not ALLOWED: {describe(difference)}",
    )


def _short(names: tuple[str, str], each: Proved) -> Proven:
    from harness.graph.digest import digest

    proof, start = each.proof, time.perf_counter()
    digests = digest(each.lowered[0]), digest(each.lowered[1])
    absent = [*proof.left_only, *proof.right_only]
    parting = next((divergence_text(names, found).replace("\n", "; ") for found in proof.unequal.values()), "")
    return Proven(
        part=f"{each.program}/{each.part}",
        equal=len(proof.equal),
        outputs=proof.outputs,
        operations=proof.operations,
        rewrites=proof.rewrites,
        parting=parting or (f"only one side returns {absent[0]}" if absent else ""),
        marks=marks_text(names, proof),
        seconds=sum(each.lowering) + proof.seconds + time.perf_counter() - start,
        digests=digests,
    )
