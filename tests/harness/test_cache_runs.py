"""Runs that reuse verdicts: what is audited, kept, refused and said."""

from __future__ import annotations

import functools
import os

import pytest

import harness.cli.run
from harness.cli import obeyed
from harness.runner import Work
from tests.harness.cached_place import COUNT, SCENARIO, WORK, all_known, enter


@pytest.fixture
def place(monkeypatch, tmp_path):
    return enter(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A place whose verdicts are all known. Tests leave it as it was."""
    yield from all_known(tmp_path_factory.mktemp("known"))


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


def test_what_was_finished_before_an_interrupt_is_not_run_again(place, monkeypatch, capsys):
    whole = harness.cli.run.run

    def stopped(tickets, jobs, work, tell):
        def four(event):
            tell(event)
            if event.done == 4:
                raise KeyboardInterrupt

        return whole(tickets, jobs, work, four)

    with monkeypatch.context() as patched:
        patched.setattr(harness.cli.run, "run", stopped)
        assert place.run() == 130
    assert "4 of 11 cases had passed: the next run need not repeat them" in capsys.readouterr().err
    assert len(place.entries) == 4
    assert place.run() == 0
    # The one of the four that is audited runs too.
    assert len(place.ran) == COUNT - 4 + 1


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
