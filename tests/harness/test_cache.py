"""Verdicts are used again only while nothing that they rest on has changed, and audited. Workers that know no JAX."""

from __future__ import annotations

import functools
import json
import os
import time
from pathlib import Path

import pytest

import harness
from harness.cache import Request, planned
from harness.cache.code import code_of
from harness.cli import obeyed
from harness.discover import discover, expand
from harness.runner import Work

WORK = '''
"""What a worker of these tests does."""
import os
from pathlib import Path

import yaml

from harness.cache.traced import noted
from harness.discover import discover
from harness.proof import Proven
from harness.verdict import Rung, Verdict

HERE = Path(__file__).parent


def steady(ticket, goldens, notes):
    return noted(judge, ticket, goldens, notes)


def judge(ticket, goldens, pending):
    discover(Path(ticket.folder))
    with (Path(os.environ["LOG"]) / "ran").open("a") as log:
        log.write(ticket.case + "\\n")
    preset = yaml.safe_load((HERE / "preset.yml").read_text())
    mood = (Path(os.environ["LOG"]) / "mood").read_text()
    if mood == "edits":
        (HERE / "work.py").write_text((HERE / "work.py").read_text() + "# now\\n")
    rung = Rung.DIVERGED if ticket.label == "bad" else Rung.BITWISE if mood == "slips" else Rung.PROVED
    proof = Proven(part="f/f", equal=1, outputs=1, operations=(1, 1), rewrites={}, parting="", marks=(), seconds=0.1,
                   digests=(f"a{preset['graph']}:b",) * 2)
    about = {"case": ticket.case, "scenario": ticket.scenario, "sides": ticket.sides}
    return Verdict(**about, rung=rung, proofs=(proof,), seconds=1.0)
'''

SCENARIO = """
from harness.scenario import Scenario
SCENARIO = Scenario(why="a test", program="forward", matrix={f"case{n}": {"n": n} for n in range(11)}, seconds=30.0)
"""

COUNT = 11


class Place:
    """A folder with scenarios, goldens, a user's package and a cache, and the command run in it."""

    def __init__(self, root: Path) -> None:
        self.root, self.package = root, root / "mine"
        for name in ("scenarios", "goldens", "mine"):
            (root / name).mkdir()
        (self.package / "__init__.py").touch()
        self.write("mine/work.py", WORK)
        self.write("mine/preset.yml", "graph: 1\n")
        self.write("scenarios/many.py", SCENARIO)
        self.write("mood", "steady")

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)

    def run(self, *words: str) -> int:
        self.write("ran", "")
        time.sleep(0.05)  # what changed at the very moment a run begins is taken for changed during it
        places = ["--scenarios", str(self.root / "scenarios"), "--goldens", str(self.root / "goldens")]
        return obeyed(["run", *places, "--jobs", "1", "--json", str(self.root / "report.json"), *words])

    @property
    def ran(self) -> list[str]:
        return (self.root / "ran").read_text().splitlines()

    @property
    def report(self) -> dict:
        return json.loads((self.root / "report.json").read_text())

    @property
    def entries(self) -> list[Path]:
        return sorted((self.root / "cache" / "verdicts").glob("*.json"))

    def fit(self, **limits: float) -> int:
        """How many cases a run would not have to run."""
        scenarios = discover(self.root / "scenarios")
        tickets = [
            ticket
            for name, scenario in scenarios.items()
            for ticket in expand(name, scenario, folder=str(self.root / "scenarios"))
        ]
        request = Request(
            how="reuse", goldens=self.root / "goldens", folder=self.root / "cache" / "verdicts", begun=0.0, seed=1
        )
        return len(planned(tickets, scenarios, request).fit)


HARNESS = str(Path(harness.__file__).parent)
once = functools.cache(code_of)


def enter(patch: pytest.MonkeyPatch, root: Path) -> Place:
    # The harness itself is read once: nobody edits it here, and it is the slowest to read.
    patch.setattr("harness.cache.reuse.code_of", lambda each: once(each) if each == HARNESS else code_of(each))
    patch.setenv("HARNESS_CACHE", str(root / "cache"))
    patch.setenv("LOG", str(root))
    patch.delenv("CI", raising=False)
    patch.syspath_prepend(root)
    patch.setattr("harness.cli.run.Work", functools.partial(Work, function="mine.work:steady", preload=()))
    return Place(root)


@pytest.fixture
def place(monkeypatch, tmp_path):
    return enter(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A place whose verdicts are all known. Tests leave it as it was."""
    with pytest.MonkeyPatch.context() as patch:
        place = enter(patch, tmp_path_factory.mktemp("known"))
        assert place.run() == 0
        assert len(place.entries) == len(place.ran) == COUNT
        yield place


CHANGES = {
    "a golden comes": ("goldens/many.json", "{}"),
    "a preset": ("mine/preset.yml", "graph: 2\n"),
    "a file that no import names": ("mine/data.bin", "x"),
    "the user's code": ("mine/work.py", WORK.replace("Rung.DIVERGED if", "Rung.ALLOWED if")),
    "a value in it": ("mine/work.py", WORK.replace("seconds=1.0", "seconds=2.0")),
    "the scenario's settings": ("scenarios/many.py", SCENARIO.replace('{"n": n}', '{"n": n + 1}')),
    "its code": ("scenarios/many.py", SCENARIO + "\nUNUSED = 1\n"),
}
HARMLESS = {
    "a comment": ("mine/work.py", "# said\n" + WORK),
    "a docstring": ("mine/work.py", WORK.replace("What a worker of these tests does.", "Work.")),
    "formatting": ("mine/work.py", WORK.replace("seconds=0.1,\n", "\n        seconds=0.1,")),
    "another scenario": ("scenarios/z.py", SCENARIO.replace("range(11)", "()")),
    "what Python writes": ("mine/__pycache__/x.pyc", "x"),
}


def with_change(place, change):
    name, text = change
    path = place.root / name
    before = path.read_bytes() if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    try:
        return place.fit()
    finally:
        path.unlink() if before is None else path.write_bytes(before)


@pytest.mark.parametrize("what", CHANGES)
def test_what_a_verdict_rests_on_makes_it_run_again(known, what):
    assert with_change(known, CHANGES[what]) == 0
    assert known.fit() == COUNT


@pytest.mark.parametrize("what", HARMLESS)
def test_what_changes_no_number_does_not(known, what):
    assert with_change(known, HARMLESS[what]) == COUNT


@pytest.mark.parametrize(
    ("name", "value", "fit"),
    [
        ("XLA_FLAGS", "--xla_cpu_enable_fast_math=true", 0),
        ("JAX_ENABLE_X64", "1", 0),
        ("NVIDIA_TF32_OVERRIDE", "1", 0),
        ("JAX_COMPILATION_CACHE_DIR", "/elsewhere", COUNT),
        ("EDITOR", "ed", COUNT),
    ],
)
def test_variables_that_change_numbers_count(known, monkeypatch, name, value, fit):
    monkeypatch.setenv(name, value)
    assert known.fit() == fit


def test_a_changed_golden_counts_also_where_only_its_body_did(known):
    assert with_change(known, ("goldens/many.npz", "PK")) == 0


@pytest.mark.parametrize(
    "spoil", [lambda text: text[:-30], lambda text: "[]", lambda text: text.replace("PROVED", "SOLVED")]
)
def test_an_entry_that_cannot_be_read_counts_for_nothing_and_is_replaced(known, spoil):
    path = known.entries[0]
    before = path.read_text()
    path.write_text(spoil(before))
    assert known.fit() == COUNT - 1
    assert known.run() == 0
    assert len(known.ran) == 1 + 1  # and one audit, of ten
    assert json.loads(path.read_text())["case"] == json.loads(before)["case"]
    assert known.fit() == COUNT


def test_a_tenth_is_audited_and_the_report_says_so(known, capsys):
    assert known.run("--audit-seed", "5") == 0
    first, text = known.ran, capsys.readouterr().out
    assert len(first) == 2
    assert "Verdicts of earlier runs reused: 9 of 11, audited: 2 (seed 5)" in text
    assert text.count(" reused\n") == 9
    report = known.report
    assert sorted(report["reuse"]["audited"]) == sorted(first)
    assert sum(case["reused"] for case in report["scenarios"]) == 9
    assert [case["name"] for case in report["scenarios"]] == [f"many[case{n},linen:nnx]" for n in range(COUNT)]
    drawn = set()
    for seed in range(1, 4):
        assert known.run("--audit-seed", str(seed)) == 0
        drawn |= set(known.ran)
    assert len(drawn) > 2


def test_fresh_and_ci_run_everything_and_still_write(known, monkeypatch, capsys):
    old = {path: path.stat().st_mtime_ns for path in known.entries}
    assert known.run("--fresh") == 0
    assert len(known.ran) == COUNT
    assert all(path.stat().st_mtime_ns > old[path] for path in known.entries)
    assert "Run again as asked: 11 cases" in capsys.readouterr().out
    monkeypatch.setenv("CI", "true")
    assert known.run() == 0
    assert len(known.ran) == COUNT
    assert known.run("--reuse") == 0
    assert len(known.ran) == 2


def test_an_audit_that_finds_another_verdict_fails_the_run_and_forgets_it(place, capsys):
    assert place.run() == 0
    place.write("mood", "slips")
    assert place.run("--audit-seed", "3") == 4
    seen = capsys.readouterr()
    assert seen.err.count("AUDIT FAILED") == 2
    assert "rung was PROVED, is BITWISE" in seen.err
    assert "AUDIT FAILED: many[" in seen.out
    assert "The flag may not be flipped: 2 of 11 cases failed." in seen.out
    assert len(place.entries) == COUNT - 2
    place.write("mood", "steady")
    assert place.run("--fresh") == 0
    assert place.run() == 0


def test_changed_code_whose_graphs_are_the_old_ones_is_said_to_have_them(place, capsys):
    assert place.run() == 0
    place.write("mine/work.py", WORK.replace("seconds=1.0", "seconds=2.0"))
    capsys.readouterr()
    assert place.run() == 0
    assert len(place.ran) == COUNT
    assert "Run again for another code: 11 cases, graphs unchanged in 11" in capsys.readouterr().out
    place.write("mine/preset.yml", "graph: 7\n")
    assert place.run() == 0
    assert "Run again for another code: 11 cases, graphs unchanged in 0" in capsys.readouterr().out


def test_only_what_passed_is_kept(place):
    place.write("scenarios/many.py", SCENARIO.replace('{f"case{n}"', '{"bad" if n == 4 else f"case{n}"'))
    assert place.run() == 1
    assert len(place.entries) == COUNT - 1
    assert place.run() == 1
    assert "many[bad,linen:nnx]" in place.ran


def test_code_that_is_edited_while_it_runs_is_not_taken_for_what_ran(place):
    place.write("mood", "edits")
    assert place.run() == 0
    assert place.entries == []


def test_a_folder_that_cannot_be_written_is_said_once(place, monkeypatch, capsys):
    place.write("file", "")
    monkeypatch.setenv("HARNESS_CACHE", str(place.root / "file"))
    assert place.run() == 0
    assert len(place.ran) == COUNT
    assert capsys.readouterr().err.count("verdicts are not kept") == 1


def test_regenerating_a_golden_asks_no_cache(place, monkeypatch):
    monkeypatch.setattr("harness.cli.run.planned", lambda *a: pytest.fail("a golden rests on a stored verdict"))
    monkeypatch.setattr("harness.cli.golden.Work", functools.partial(Work, function="mine.work:steady", preload=()))
    place.write("ran", "")
    words = ["golden", "regenerate", "--scenario", "many", "--scenarios", str(place.root / "scenarios")]
    obeyed([*words, "--goldens", str(place.root / "goldens"), "--jobs", "1"])
    assert len(place.ran) == COUNT
    assert os.listdir(place.root).count("cache") == 0
