"""Scenarios through pytest: the first quick case of each, both sides compared and held against its golden.

`harness run --scenario all` runs every quick case, each in a worker of its own, and .ci/run runs that too. Here one
case of each scenario is enough to show that pytest and syrupy see what the command line sees.
"""

from __future__ import annotations

import pytest

from harness.attestation import refusal
from harness.comparison import compare
from harness.difference import describe
from harness.discover import discover, expand
from harness.drift import drift_compare
from harness.golden.extension import in_folder
from harness.prepare import prepare
from harness.registry import load_pair
from harness.replay import observed
from harness.runner import Work, run
from tests.test_house import ROOT

SCENARIOS = discover(ROOT / "scenarios")

FIRST = {
    ticket.case: ticket
    for name, scenario in SCENARIOS.items()
    for ticket in [next(t for t in expand(name, scenario, folder=str(ROOT / "scenarios")) if t.quick)]
}
TICKETS = {case: ticket for case, ticket in FIRST.items() if ticket.devices == 1}
SPREAD = {case: ticket for case, ticket in FIRST.items() if ticket.devices > 1 and ticket.relation < 0}
"""Cases of many devices, which this process has not. Relations among them take minutes: `harness run` runs those."""


@pytest.fixture
def golden(snapshot):
    return snapshot.use_extension(in_folder(ROOT / "goldens"))


@pytest.mark.slow
@pytest.mark.parametrize("ticket", TICKETS.values(), ids=list(TICKETS))
def test_both_sides_agree_with_each_other_and_with_the_golden(ticket, golden):
    pair = load_pair(ticket.pair)
    case = prepare(pair, SCENARIOS[ticket.scenario], ticket)
    sides = pair.sides[case.runs[0].side], pair.sides[case.runs[1].side]
    left, right = observed(sides, case)
    assert refusal(sides, left, right) == ""
    # Two settings of one side may differ in roundings, which `harness.oracle` holds against float64.
    parity = drift_compare(left, right) if ticket.relation >= 0 else compare(left, right, case.allow)
    assert parity.compared > 0
    assert [describe(found) for found in parity.differences if found.allowed_by is None] == []
    assert list(parity.unused) == []
    assert left == golden(name=f"{ticket.scenario}/{case.golden}")
    if ticket.relation < 0:
        assert right == golden(name=f"{ticket.scenario}/{case.golden}")


@pytest.mark.slow
@pytest.mark.parametrize("ticket", SPREAD.values(), ids=list(SPREAD))
def test_cases_of_many_devices_pass_in_a_worker_of_their_own(ticket):
    (verdict,) = run([ticket], 1, Work(goldens=str(ROOT / "goldens")), lambda event: None)
    assert verdict.passed, verdict.detail
    assert verdict.environment.device.startswith(f"{ticket.devices} x ")
