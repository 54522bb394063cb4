"""Scenarios, goldens and faults belong together: none without the others."""

from __future__ import annotations

import pytest

from harness.allowance import Allowance
from harness.discover import discover
from harness.faults.catalogue import CATALOGUE
from harness.golden.document import Document
from harness.golden.store import read_document
from tests.test_house import ROOT

SCENARIOS = discover(ROOT / "scenarios")
GOLDENS = ROOT / "goldens"

each = pytest.mark.parametrize("name", SCENARIOS)


@each
def test_every_scenario_has_a_golden(name):
    document = read_document(GOLDENS, name)
    assert isinstance(document, Document), document.sentence


def test_every_golden_has_a_scenario():
    goldens = {path.stem for path in GOLDENS.glob("*.*") if path.suffix in (".json", ".npz")}
    assert goldens <= set(SCENARIOS), f"orphans: {sorted(goldens - set(SCENARIOS))}"


@each
def test_every_scenario_names_a_fault_that_it_was_seen_to_catch(name):
    catchers = {fault.id: {scenario for scenario, _ in fault.scenarios} for fault in CATALOGUE.faults}
    named = SCENARIOS[name].faults
    assert named, f"scenarios/{name}.py names no fault: which mistake would it catch?"
    assert [fault for fault in named if fault not in catchers] == [], "not in harness.faults.catalogue"
    assert [fault for fault in named if name not in catchers[fault]] == [], f"not tried in {name} by the catalogue"


def test_every_fault_is_tried_in_a_scenario_that_exists():
    tried = {scenario for fault in CATALOGUE.faults for scenario, _ in fault.scenarios}
    assert tried <= set(SCENARIOS)


@pytest.mark.parametrize("because", ["", "  \n"])
def test_an_allowance_says_why(because):
    with pytest.raises(ValueError, match="has no reason"):
        Allowance(pattern="outputs/*", because=because, atol=1e-6)
