"""Faults on a toy: what is caught, placed, missed or falsely alarmed is reported so, and a stale entry is named."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import harness.cli.selftest
from harness.cli import obeyed
from harness.difference import Difference
from harness.discover import Ticket
from harness.faults import Catalogue, CatalogueError, Edit, Fault, Variation
from harness.faults.campaign import planned, sampled
from harness.faults.injection import edited, inject
from harness.faults.trial import Trial, judged
from harness.faults.work import overridden, tried
from harness.scenario import Scenario
from harness.verdict import Ending, Rung, Verdict
from tests.harness.toy_pair import write_toy

CAUGHT = {"activation": "first", "output_doubled": "second", "output_zero": "y is not zero"}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The catalogue of a toy that lies in the working folder."""
    write_toy(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("toyfaults").CATALOGUE
    for name in [name for name in sys.modules if name.partition(".")[0] in ("toyhouse", "toyfaults")]:
        del sys.modules[name]


def selftest(*words: str) -> int:
    return obeyed(["selftest", "--catalogue", "toyfaults:CATALOGUE", "--jobs", "1", *words])


def test_the_whole_catalogue_in_real_workers(toy, tmp_path, capsys):
    before = (tmp_path / "toyhouse" / "right.py").read_text()
    assert selftest("--json", str(tmp_path / "out.json")) == 1
    assert (tmp_path / "toyhouse" / "right.py").read_text() == before
    report = json.loads((tmp_path / "out.json").read_text())
    faults = {fault["id"]: fault for fault in report["faults"]}
    assert report["version"] == 1
    assert {name: faults[name]["module"] for name in CAUGHT} == CAUGHT
    assert [name for name, fault in faults.items() if fault["placed"]] == [*CAUGHT, "no_such_weight"]
    assert [name for name, fault in faults.items() if not fault["caught"]] == ["broken_code", "harmless"]
    assert faults["expected_elsewhere"] | {"module": "first", "caught": True} == faults["expected_elsewhere"]
    assert faults["output_zero"]["channel"] == faults["output_zero"]["expected_channel"] == "claims"
    assert faults["harmless"]["rung"] == "BITWISE"
    assert report["false_alarms"] == ["not_clean"]
    assert {item["id"]: item["quiet"] for item in report["variations"]} == {
        "reworded": True,
        "resized": True,
        "not_clean": False,
    }
    told = capsys.readouterr().out
    assert "Caught 5 of 7 faults, placed 4; 1 false alarms in 3 clean variations." in told
    assert "expected_elsewhere: misplaced in toy[default,linen:nnx]" in told
    assert "harmless: not caught in toy[default,linen:nnx]" in told


def test_exit_0_if_all_is_caught_placed_and_quiet(toy, capsys):
    assert selftest("--only", "activation,resized") == 0
    assert "Caught 1 of 1 faults, placed 1; 0 false alarms in 1 clean variations." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("only", "rung", "code"),
    [
        ("activation,resized", {"activation": Rung.DIVERGED, "resized": Rung.BITWISE}, 0),
        ("activation,resized", {"activation": Rung.BITWISE, "resized": Rung.BITWISE}, 1),
        ("activation,resized", {"activation": Rung.DIVERGED, "resized": Rung.DIVERGED}, 1),
        ("resized", {"resized": Rung.ALLOWED}, 1),
    ],
)
def test_an_uncaught_fault_or_a_false_alarm_gives_exit_1(toy, monkeypatch, only, rung, code):
    def pretended(chosen, catalogue, jobs, on_event):
        return [judged(trial, verdict(rung[trial.entry.id], module="first")) for trial in chosen]

    monkeypatch.setattr(harness.cli.selftest, "tried_out", pretended)
    assert selftest("--only", only) == code


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (Edit("toyhouse/right.py", "np.tan(", "np.sin("), "'f': toyhouse/right.py no longer holds 'np.tan('"),
        (Edit("toyhouse/right.py", "hidden", "secret"), "toyhouse/right.py holds 'hidden' 3 times: add lines"),
        (Edit("toyhouse/middle.py", "a", "b"), "'f': toyhouse/middle.py is no file of a package in"),
        (Edit("../right.py", "a", "b"), "../right.py is no file of a package in"),
        (Edit("toyhouse/right.py", "np.tanh(", "np.tanh("), "changes nothing"),
    ],
)
def test_an_edit_that_no_longer_fits_is_named(toy, edit, sentence):
    with pytest.raises(CatalogueError) as raised:
        edited("f", (edit,), toy.root)
    assert sentence in str(raised.value)


def test_a_stale_entry_stops_the_command_even_if_it_was_not_chosen(toy, tmp_path, capsys):
    path = tmp_path / "toyhouse" / "right.py"
    path.write_text(path.read_text().replace("np.tanh(x @", "np.tanh(x.dot"))
    assert selftest("--only", "output_doubled") == 2
    told = capsys.readouterr().err
    assert "'not_clean'" in told
    assert "np.tanh(x @" in told
    assert "the nearest line is 'hidden = np.tanh(x.dot" in told


def test_edits_of_one_file_follow_each_other_and_the_original_stays(toy, tmp_path):
    edits = (Edit("toyhouse/left.py", "np.tanh(", "np.sin("), Edit("toyhouse/left.py", "np.sin(x", "np.cos(x"))
    inject("f", edits, toy.root, tmp_path / "copy")
    assert "np.cos(x @" in (tmp_path / "copy" / "toyhouse" / "left.py").read_text()
    assert "np.tanh(x @" in (tmp_path / "copy" / "toyhouse" / "right.py").read_text()
    assert "np.tanh(x @" in (tmp_path / "toyhouse" / "left.py").read_text()


def test_a_process_that_has_imported_the_package_already_is_refused(toy, tmp_path):
    importlib.import_module("toyhouse")
    order = tmp_path / "trials" / "activation"
    order.mkdir(parents=True)
    (order / "order.json").write_text(json.dumps({"packages": ["toyhouse"], "settings": {}, "seed": 0}))
    with pytest.raises(CatalogueError, match="toyhouse was imported before"):
        tried(planned(toy)[0].ticket, Path(), tmp_path / "trials")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--only", "activatoin"], "no fault or variation is called 'activatoin': did you mean activation?"),
        (["--catalogue", "toyfaults"], "write it as module:ATTRIBUTE"),
        (["--catalogue", "toyfaults:RIGHT"], "is a str, not a harness.faults.Catalogue"),
        (["--json", "/nowhere/at/all.json"], "/nowhere/at does not exist"),
        (["--jobs", "0"], "is not a whole number from 1 on"),
    ],
)
def test_bad_usage_is_2_before_anything_runs(toy, capsys, words, sentence):
    assert selftest(*words) == 2
    assert sentence in capsys.readouterr().err


def test_names_of_cases_and_channels_are_checked(toy):
    entry = toy.faults[0]
    with pytest.raises(CatalogueError, match="names the cell 'large' of toy"):
        planned(with_faults(toy, replace(entry, scenarios=(("toy", "large"),))))
    with pytest.raises(CatalogueError, match="names the scenario 'boy'"):
        planned(with_faults(toy, replace(entry, scenarios=(("boy", "default"),))))
    with pytest.raises(CatalogueError, match="used once: activation"):
        planned(with_faults(toy, entry, entry))
    with pytest.raises(CatalogueError, match="no channel is called 'logits'"):
        replace(entry, channel="logits")


def test_a_sample_is_drawn_by_its_seed_alone(toy):
    plan = planned(toy)
    drawn = {seed: [trial.entry.id for trial in sampled(plan, 3, seed)] for seed in range(8)}
    assert drawn[5] == [trial.entry.id for trial in sampled(plan, 3, 5)]
    assert len({tuple(ids) for ids in drawn.values()}) > 3
    assert all(len(ids) == 5 for ids in drawn.values())
    assert len(sampled(plan, 99, 0)) == len(plan)


@dataclass(frozen=True)
class Sizes:
    """A record inside settings."""

    width: int = 5
    parts: tuple[int, ...] = (2, 3)


def test_settings_are_laid_over_by_dotted_path():
    scenario = Scenario(
        why="w", program="p", settings={"sizes": Sizes(), "rows": 3}, matrix={"a": {"rows": 4}, "b": {}}, seed=7
    )
    varied = overridden(scenario, "a", {"sizes.parts": [4, 6], "steps": 2}, 5)
    assert varied.settings == {"sizes": Sizes(parts=(4, 6)), "rows": 4, "steps": 2}
    assert varied.seed == 12
    assert overridden(scenario, "a", {}, 0).settings == {"sizes": Sizes(), "rows": 4}
    with pytest.raises(CatalogueError, match=r"'model\.width' leads nowhere"):
        overridden(scenario, "b", {"model.width": 3}, 0)


def verdict(rung: Rung, module: str = "", reason: str = "value", ending: Ending | None = None) -> Verdict:
    first = Difference(channel="outputs", name="y", reason=reason, left="0.5", right="0.25")  # type: ignore[arg-type]
    diverged = rung is Rung.DIVERGED
    return Verdict(
        case="c", scenario="toy", sides=("linen", "nnx"), rung=rung, ending=ending, module=module,
        first=first if diverged else None, detail="side nnx declares nnx, but forward traced linen",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("expect", "module", "seen", "caught", "placed"),
    [
        ("diverged", "layers/*", verdict(Rung.DIVERGED, "layers/1"), True, True),
        ("diverged", "layers/0", verdict(Rung.DIVERGED, "layers/1"), True, False),
        ("diverged", "*", verdict(Rung.DIVERGED, "layers/1", "error"), False, False),
        ("diverged", "*", verdict(Rung.DIVERGED, "layers/1", "claim"), False, False),
        ("diverged", "*", verdict(Rung.BITWISE), False, False),
        ("diverged", "*", verdict(Rung.ALLOWED), False, False),
        ("claim", "y", verdict(Rung.DIVERGED, "layers/1", "claim"), True, True),
        ("error", "*0.25", verdict(Rung.DIVERGED, "", "error"), True, True),
        ("error", "*", verdict(Rung.DIVERGED, "layers/1"), False, False),
        ("diverged", "*", verdict(Rung.BITWISE, ending=Ending.REFUSED), False, False),
    ],
)
def test_what_counts_as_caught_and_as_placed(expect, module, seen, caught, placed):
    fault = Fault(
        id="f", title="t", source="FM06", channel="outputs", module=module, expect=expect,
        edits=(Edit("a/b.py", "x", "y"),), scenarios=(("toy", "default"),),
    )  # fmt: skip
    outcome = judged(trial(fault), seen)
    assert (outcome.caught, outcome.placed) == (caught, placed)


@pytest.mark.parametrize(
    ("seen", "alarm"),
    [
        (verdict(Rung.BITWISE), False),
        (verdict(Rung.ALLOWED), True),
        (verdict(Rung.DIVERGED), True),
        (verdict(Rung.BITWISE, ending=Ending.REFUSED), True),
        (verdict(Rung.BITWISE, ending=Ending.TIMEOUT), True),
    ],
)
def test_a_clean_variation_must_stay_bitwise(seen, alarm):
    assert judged(trial(Variation(id="v", title="t", scenario="toy", cell="default")), seen).caught is alarm


def trial(entry: Fault | Variation) -> Trial:
    ticket = Ticket(
        case=f"{entry.id} toy[default,linen:nnx]", scenario="toy", label="default", sides=("linen", "nnx"),
        pair="toyhouse.pair:TOY", folder="", quick=True, seconds=9.0, gibibytes=1.0,
    )  # fmt: skip
    return Trial(entry=entry, ticket=ticket)


def with_faults(catalogue: Catalogue, *faults: Fault) -> Catalogue:
    return replace(catalogue, faults=faults, variations=())
