"""The straight line: one case from its ticket to its verdict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.attestation import refusal
from harness.case import Case
from harness.comparison import compare
from harness.discover import Ticket, discover
from harness.golden import held, load
from harness.golden.since import attributed
from harness.judge import Evidence, Held, NotHeld, judge
from harness.observation import Observation
from harness.oracle import with_noise
from harness.pair import Pair
from harness.placing import with_place
from harness.prepare import prepare
from harness.proving import with_proofs
from harness.registry import load_pair
from harness.replay import observed
from harness.runner.dropped import drop
from harness.scenario import Scenario
from harness.verdict import Verdict

__all__ = ["judged", "scenario_of", "verify", "verify_case"]


def verify(ticket: Ticket, goldens: Path, pending: Path) -> Verdict:
    """Make the case of `ticket`, run it down both sides, compare, hold against the golden, judge.

    `pending`: a folder where the ruler's observation is left as a candidate golden; Path("") leaves none.
    """
    pair = load_pair(ticket.pair)
    case = prepare(pair, scenario_of(ticket, pair), ticket)
    return verify_case(pair, case, goldens, pending)


def verify_case(pair: Pair, case: Case, goldens: Path, pending: Path) -> Verdict:
    """The line itself."""

    def hold(left: Observation, right: Observation) -> Held | NotHeld:
        if pending != Path(""):
            drop(pending, case, left)
        return _golden(pair, case, goldens, (left, right))

    verdict, runs = judged(pair, case, hold)
    verdict = with_noise(pair, case, with_proofs(pair, case, verdict), runs)
    return attributed(with_place(pair, case, verdict, runs))


def judged(
    pair: Pair, case: Case, hold: Callable[[Observation, Observation], Held | NotHeld]
) -> tuple[Verdict, tuple[Observation, Observation]]:
    """Both runs of `case` observed, compared and judged; and what was observed.

    hold: holds both observations against the golden.
    """
    sides = pair.sides[case.runs[0].side], pair.sides[case.runs[1].side]
    left, right = observed(sides, case)
    evidence = Evidence(
        left=left,
        right=right,
        parity=compare(left, right, case.allow),
        golden=hold(left, right),
        refusal=refusal(sides, left, right),
    )
    return judge(case.name, case.scenario, (left.who, right.who), evidence), (left, right)


def _golden(pair: Pair, case: Case, goldens: Path, runs: tuple[Observation, Observation]) -> Held | NotHeld:
    """The golden of `case`, held against both runs. A pair that brings its scenarios may have no goldens yet."""
    if case.scenario in pair.scenarios and not goldens.is_dir():
        reason = f"{pair.name} has no goldens in {goldens}: make them with `harness golden regenerate`, then accept"
        return NotHeld(because=reason)
    return held(load(goldens, case.scenario, case.golden, case.digest), *runs)


def scenario_of(ticket: Ticket, pair: Pair) -> Scenario:
    """The scenario of `ticket`: from its folder, or one of the pair's own."""
    known = discover(Path(ticket.folder)) if ticket.folder else pair.scenarios
    return known[ticket.scenario]
