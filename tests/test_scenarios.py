"""Scenarios through pytest: the first quick case of some, both sides compared and held against its golden.

`harness run --scenario all` runs every quick case, each in a worker of its own, and .ci/run runs that too. Here one
case of a few parities is enough to show that pytest and syrupy see what the command line sees.
"""

from __future__ import annotations

import pytest

from harness.attestation import refusal
from harness.comparison import compare
from harness.difference import describe
from harness.discover import discover, expand
from harness.golden.extension import in_folder
from harness.observe import observe
from harness.prepare import prepare
from harness.registry import load_pair
from tests.test_house import ROOT

SCENARIOS = discover(ROOT / "scenarios")

SHOWN = ("bad_input", "prefill_decode", "train_step")
"""Parities of one device with draws of their own, which one process can run: refusals, serving and training."""

TICKETS = {
    ticket.case: ticket
    for name in SHOWN
    for ticket in [next(t for t in expand(name, SCENARIOS[name], folder=str(ROOT / "scenarios")) if t.quick)]
}


@pytest.fixture
def golden(snapshot):
    return snapshot.use_extension(in_folder(ROOT / "goldens"))


@pytest.mark.slow
@pytest.mark.parametrize("ticket", TICKETS.values(), ids=list(TICKETS))
def test_both_sides_agree_with_each_other_and_with_the_golden(ticket, golden):
    pair = load_pair(ticket.pair)
    case = prepare(pair, SCENARIOS[ticket.scenario], ticket)
    sides = pair.sides[case.runs[0].side], pair.sides[case.runs[1].side]
    left, right = (observe(side, case, run) for side, run in zip(sides, case.runs, strict=True))
    assert refusal(sides, left, right) == ""
    parity = compare(left, right, case.allow)
    assert parity.compared > 0
    assert [describe(found) for found in parity.differences if found.allowed_by is None] == []
    assert list(parity.unused) == []
    assert left == golden(name=f"{ticket.scenario}/{case.golden}")
    assert right == golden(name=f"{ticket.scenario}/{case.golden}")
