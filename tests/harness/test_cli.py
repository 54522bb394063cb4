"""The command line: exit codes, refusals before anything runs, the way of a golden. Fake cases in real workers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import junitparser
import pytest

import harness.cli
import harness.cli.run
from harness.cli import COMMANDS, obeyed
from tests.harness.fake_cases import use_fake

ROOT = Path(__file__).resolve().parents[2]

SCENARIO = """
from harness.allowance import Allowance
from harness.scenario import Scenario
SCENARIO = Scenario(
    why="{why}", program="forward", matrix={matrix}, quick={quick}, faults=("lost_bias",),
    sides=(("linen", "nnx"), ("linen", "bridged")), seconds=30.0, gibibytes=1.0,
    allow=(Allowance(pattern="outputs/*", atol=1e-3, because="sums are taken in another order"),),
)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of scenarios whose cases do what their labels say, in workers that know no JAX."""
    scenarios = tmp_path / "scenarios"
    scenarios.mkdir()
    for name, matrix, quick in [
        ("attention", {"good": {"heads": 3}, "crash": {}}, ("good",)),
        ("dropout", {"diverged": {}}, ()),
        ("embedding", {"good": {}}, ()),
    ]:
        text = SCENARIO.format(why=f"{name} must not move", matrix=matrix, quick=quick)
        (scenarios / f"{name}.py").write_text(text)
    use_fake(monkeypatch, "fake")
    return scenarios


def run(folder: Path, *words: str) -> int:
    return obeyed(["run", "--scenarios", str(folder), "--goldens", str(folder.parent), "--jobs", "1", *words])


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--scenario", "embedding"], 0, "may be flipped as far as this run looked. It left out: 2 of 3 scenarios."),
        (["--scenario", "dropout"], 1, "may not be flipped: 2 of 2 cases failed."),
        (["--scenario", "attention"], 0, "2 of 4 cases of the scenarios run (--matrix quick)"),
        (["--scenario", "attention", "--matrix", "full"], 4, "may not be flipped: 2 of 4 cases failed."),
        (["--scenario", "all", "--matrix", "full"], 1, "may not be flipped: 4 of 8 cases failed."),
    ],
)
def test_the_exit_code_is_what_the_verdicts_say(folder, capsys, words, code, sentence):
    assert run(folder, *words) == code
    assert sentence in capsys.readouterr().out


def test_names_globs_sides_and_shards_choose_cases(folder, tmp_path):
    def cases(*words: str) -> list[str]:
        path = tmp_path / "report.json"
        run(folder, "--json", str(path), *words)
        return [case["name"] for case in json.loads(path.read_text())["scenarios"]]

    both = cases("--scenario", "dropout", "--scenario", "embedding")
    assert both == cases("--scenario", "dropout,embedding")
    assert len(both) == 4
    quick = cases()
    assert quick == [
        "attention[good,linen:nnx]",
        "attention[good,linen:bridged]",
        "dropout[diverged,linen:nnx]",
        "dropout[diverged,linen:bridged]",
        "embedding[good,linen:nnx]",
        "embedding[good,linen:bridged]",
    ]
    assert cases("--scenario", "embedding,d*") == quick[2:]
    assert cases("--side", "bridged") == cases("--sides", "linen:bridged") == quick[1::2]
    assert cases("--shard", "2/4") + cases("--shard", "4/4") == [quick[1], quick[5], quick[3]]


def test_all_three_reports_are_written(folder, tmp_path):
    paths = {kind: tmp_path / f"report.{kind}" for kind in ("markdown", "json", "junit")}
    words = [word for kind, path in paths.items() for word in (f"--{kind}", str(path))]
    assert run(folder, *words) == 1
    assert paths["markdown"].read_text().startswith("# Parity report")
    content = json.loads(paths["json"].read_text())
    assert content["command"].startswith("harness run --scenarios")
    assert junitparser.JUnitXml.fromfile(str(paths["junit"])).failures == 2
    assert sorted(path.name for path in tmp_path.glob("*report*")) == ["report.json", "report.junit", "report.markdown"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--scenario", "atention"], "no scenario is called 'atention': did you mean attention?"),
        (["--scenario", "z*"], "there are attention, dropout, embedding"),
        (["--sides", "linen:nnz"], "did you mean linen:nnx"),
        (["--side", "torch"], "no side is called 'torch'"),
        (["--shard", "3/2"], "--shard: shard '3/2': write i/n"),
        (["--scenario", "dropout", "--shard", "5/5"], "no case is left of 2"),
        (["--jobs", "0"], "--jobs: '0' is not a whole number from 1 on"),
        (["--jobs", "two"], "--jobs: 'two' is not a whole number"),
        (["--timeout", "-1"], "--timeout: '-1' is not a number above 0"),
        (["--memory", "nan"], "--memory: 'nan' is not a number above 0"),
        (["--matrix", "most"], "--matrix: invalid choice"),
        (["--json", "nowhere/at/all.json"], "does not exist: create it"),
        (["--no-golden"], "unrecognized arguments"),
    ],
)
def test_bad_usage_is_refused_before_anything_runs(folder, capsys, monkeypatch, words, sentence):
    monkeypatch.setattr(harness.cli.run, "run", lambda *a: pytest.fail("something was run"))
    assert run(folder, *words) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "required: COMMAND"),
        (["fly"], "invalid choice"),
        (["list", "--scenarios", "/nowhere"], "/nowhere is not a folder"),
        (["list", "--pair", "no_such_module:PAIR"], "no_such_module cannot be imported"),
        (["list", "--pair", "mlp"], "write it as module:ATTRIBUTE"),
        (["golden", "regenerate"], "required: --scenario"),
        (["explain", "atention"], "did you mean attention?"),
        (["explain", "x", "--report", "/nowhere.json"], "cannot be read: No such file"),
    ],
)
def test_bad_usage_of_other_commands(folder, capsys, words, sentence):
    more = ["--scenarios", str(folder)] if words[:2] == ["explain", "atention"] else []
    assert obeyed([*words, *more]) == 2
    assert sentence in capsys.readouterr().err


def test_limits_of_the_command_line_overrule_the_scenarios(folder, monkeypatch):
    seen = []
    monkeypatch.setattr(harness.cli.run, "run", lambda tickets, jobs, work, tell: seen.extend(tickets) or [])
    run(folder, "--timeout", "7.5", "--memory", "2")
    run(folder)
    assert {(ticket.seconds, ticket.gibibytes) for ticket in seen[:6]} == {(7.5, 2.0)}
    assert {(ticket.seconds, ticket.gibibytes) for ticket in seen[6:]} == {(30.0, 1.0)}


def test_an_interrupt_is_130_and_a_surprise_is_4(folder, capsys, monkeypatch):
    def stop(*a):
        raise KeyboardInterrupt

    def surprise(*a):
        raise LookupError("the harness itself is wrong")

    monkeypatch.setattr(harness.cli.run, "run", stop)
    assert run(folder) == 130
    monkeypatch.setattr(harness.cli.run, "run", surprise)
    assert run(folder) == 4
    text = capsys.readouterr().err
    assert "failed: LookupError: the harness itself is wrong (add --debug for the traceback)" in text
    assert "Traceback" not in text
    assert run(folder, "--debug") == 4
    assert "Traceback" in capsys.readouterr().err


def test_without_a_terminal_v_gives_a_line_for_each_case(folder, capsys):
    run(folder, "--scenario", "embedding")
    assert capsys.readouterr().err == ""
    run(folder, "--scenario", "embedding", "-v")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" (")[0] for line in lines] == [
        "[1/2] embedding[good,linen:nnx]: BITWISE",
        "[2/2] embedding[good,linen:bridged]: BITWISE",
    ]


def test_list_and_explain_say_what_a_scenario_is(folder, capsys):
    place = ["--scenarios", str(folder), "--goldens", str(folder.parent)]
    assert obeyed(["list", *place]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("attention"))
    assert row.split() == ["attention", "attention", "must", "not", "move", "4", "2", "missing"]
    assert obeyed(["explain", "attention", *place]) == 0
    text = capsys.readouterr().out
    for words in ("why: attention must not move", "attention[good,linen:nnx] (quick): heads=3", "catches: lost_bias"):
        assert words in text
    assert "outputs/* rtol 0 atol 0.001, because sums are taken in another order" in text


def test_explain_reads_a_report_again(folder, capsys, tmp_path):
    path = tmp_path / "report.json"
    run(folder, "--scenario", "dropout", "--json", str(path))
    content = json.loads(path.read_text())
    capsys.readouterr()
    assert obeyed(["explain", "dropout", "--report", str(path)]) == 0
    text = capsys.readouterr().out
    assert "dropout[diverged,linen:nnx]: DIVERGED" in text
    assert "gradients: 6 of 7, 1 missing, 0 extra, 1 differing" in text
    assert obeyed(["explain", "dropuot", "--report", str(path)]) == 2
    path.write_text(json.dumps({**content, "version": 99}))
    assert obeyed(["explain", "dropout", "--report", str(path)]) == 2
    path.write_text("[]")
    assert obeyed(["explain", "dropout", "--report", str(path)]) == 2
    assert "has version 99" in capsys.readouterr().err


def test_starting_imports_no_jax():
    script = (
        "import sys; from harness.cli import obeyed\n"
        "codes = [obeyed(['--help']), obeyed(['run', '--jobs', '0']), obeyed(['golden', '--help'])]\n"
        "print(codes, sorted({'jax', 'flax', 'impl'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert answer.stdout.splitlines()[-1] == "[0, 2, 0] []"


def test_every_command_of_the_table_is_there(capsys):
    assert obeyed(["--help"]) == 0
    text = capsys.readouterr().out
    names = {name.rpartition(".")[2] for name in COMMANDS}
    assert {"run", "listing", "explain", "doctor", "golden"} <= names
    assert all(f"    {verb} " in text for verb in ("run", "list", "explain", "doctor", "golden"))
