"""The catalogue of `impl`'s faults fits the code, is large and broad, and a sample of it is caught every time."""

from __future__ import annotations

import json
import re

import pytest

from harness.cli import obeyed
from harness.discover import discover, settings_of
from harness.faults import Fault
from harness.faults.campaign import planned
from harness.faults.catalogue import CATALOGUE
from harness.faults.injection import edited
from harness.faults.work import overridden
from impl.requested import config_of, training_of

FAULTS = {fault.id: fault for fault in CATALOGUE.faults}
ENTRIES = {entry.id: entry for entry in CATALOGUE.entries}
SCENARIOS = discover(CATALOGUE.root / "scenarios")

SAMPLE = ("scan_reversed", "dropout_same_mask_each_layer", "flag_selects_linen", "nnx_attributes_reordered")
"""Three faults that show in three different ways, and a clean variation."""


@pytest.mark.parametrize("name", ENTRIES)
def test_every_edit_still_fits_and_leaves_python(name):
    entry = ENTRIES[name]
    for file, text in edited(name, entry.edits, CATALOGUE.root).items():
        compile(text, file, "exec")
        assert not file.startswith("harness/"), "the harness is never edited"


def test_every_entry_names_a_case_that_exists():
    assert {trial.entry.id for trial in planned(CATALOGUE)} == set(ENTRIES)


def test_the_catalogue_is_large_and_broad():
    assert len(CATALOGUE.faults) >= 70
    assert len(CATALOGUE.variations) >= 200
    assert {fault.expect for fault in CATALOGUE.faults} == {"diverged", "claim", "error", "refused"}
    edits = {edit.file.rpartition("/")[0] for fault in CATALOGUE.faults for edit in fault.edits}
    assert {"impl/nnx", "impl/linen", "impl/bridged"} <= edits


def test_every_variation_is_a_model_that_can_be_built():
    for entry in CATALOGUE.variations:
        scenario = overridden(SCENARIOS[entry.scenario], entry.cell, entry.settings, entry.seed)
        assert entry.edits or entry.seed or scenario.settings != settings_of(SCENARIOS[entry.scenario], entry.cell)
        config_of(scenario.settings)
        training_of(scenario.settings)


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_names_its_source(name):
    assert re.fullmatch(r"(FM|B|S|C)\d\d?|MT:[0-9a-f]{7,}", FAULTS[name].source)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_names_faults_that_it_must_catch(name):
    promised = SCENARIOS[name].faults
    assert promised, f"{name} names no fault that it has been seen to catch"
    for fault in promised:
        assert fault in FAULTS, f"{name} names the fault {fault!r}, which is not in the catalogue"
        assert name in [scenario for scenario, _ in FAULTS[fault].scenarios], f"{fault!r} is not tried in {name}"


def test_a_sample_is_caught_placed_and_quiet(tmp_path, capsys):
    code = obeyed(["selftest", "--only", ",".join(SAMPLE), "--json", str(tmp_path / "out.json"), "--jobs", "2"])
    told = capsys.readouterr().out
    report = json.loads((tmp_path / "out.json").read_text())
    assert [fault["id"] for fault in report["faults"]] == [name for name in SAMPLE if isinstance(ENTRIES[name], Fault)]
    assert (code, report["false_alarms"]) == (0, []), told
