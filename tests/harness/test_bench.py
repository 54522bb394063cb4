"""The arithmetic of ratios with clocks made by hand, the order of measuring, and what cannot be measured."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import harness.cli
from harness.bench import overhead, runs, steps
from harness.bench.pairs import Ratio, alternate, ratio
from harness.bench.steps import StepBench, bench_steps
from harness.cli.bench import _text
from harness.discover import expand
from harness.pair import NoStepper, Stepper
from tests.harness.tiny_pairs import HONEST, LINEN, NNX, case_of, pair_of

EVEN = Ratio(median=1.0, low=0.5, high=2.0, a=0.25, b=0.5, rounds=3)
BENCH = "tests.harness.tiny_pairs:HONEST"


def test_a_ratio_is_taken_pair_by_pair():
    found = ratio([2.0, 4.0, 8.0], [3.0, 2.0, 32.0])
    assert found == Ratio(median=1.5, low=0.5, high=4.0, a=4.0, b=3.0, rounds=3)
    assert ratio([2.0, 4.0], [1.0, 6.0]) == Ratio(median=1.0, low=0.5, high=1.5, a=3.0, b=3.5, rounds=2)


def test_series_of_unequal_length_have_no_ratio():
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0, 2.0], [3.0])


@pytest.mark.parametrize(("rounds", "order"), [(1, "ABAB"), (2, "ABABBA"), (5, "ABABBAABBAAB")])
def test_both_are_called_in_turn_and_the_first_pair_does_not_count(rounds, order):
    calls = []

    def timed(name, seconds):
        left = iter(seconds)

        def call():
            calls.append(name)
            return next(left)

        return call

    first = [1e6, 2.0, 4.0, 8.0, 16.0, 32.0][: rounds + 1]
    second = [1e-6, 6.0, 4.0, 4.0, 8.0, 128.0][: rounds + 1]
    found = alternate(timed("A", first), timed("B", second), rounds)
    assert "".join(calls) == order
    assert found == ratio(first[1:], second[1:])
    assert found.rounds == rounds


class Clock:
    """Goes on by what a step costs, and by what waiting for its result costs."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        self.calls = []
        monkeypatch.setattr(steps, "time", SimpleNamespace(perf_counter=lambda: self.now))
        monkeypatch.setattr(jax, "block_until_ready", self.wait)

    def wait(self, result):
        self.now += float(result[0])
        return result

    def stepper(self, name, dispatch, wait, **sizes):
        def once():
            self.calls.append(name)
            self.now += dispatch
            return np.array([wait, 0.5])

        return Stepper(once=once, compiled=sizes)


def test_the_steps_of_both_sides_are_timed_with_and_without_waiting(monkeypatch):
    clock = Clock(monkeypatch)
    monkeypatch.setattr(steps, "ROUNDS", 3)
    monkeypatch.setattr(steps, "CALLS", 2)
    made = []

    def linen(case):
        made.append(case.name)
        return clock.stepper(f"linen {len(made)}", 0.25, 0.75, temp=100, output=64)

    pair = pair_of(
        replace(LINEN, stepper=linen),
        replace(NNX, stepper=lambda case: clock.stepper("nnx", 0.5, 3.5, temp=150, output=64)),
    )
    case = case_of(pair)
    found = bench_steps(pair, case)
    assert (found.case, found.sides) == (case.name, ("linen", "nnx"))
    assert found.step == Ratio(median=4.0, low=4.0, high=4.0, a=1.0, b=4.0, rounds=3)
    assert found.dispatch == Ratio(median=2.0, low=2.0, high=2.0, a=0.25, b=0.5, rounds=3)
    assert found.noise == Ratio(median=1.0, low=1.0, high=1.0, a=1.0, b=1.0, rounds=3)
    assert found.bytes == {"temp": (100, 150), "output": (64, 64)}
    assert made == [case.name] * 2
    # 4 measures of each (one uncounted) of 2 calls; the ruler is in all three comparisons.
    assert {name: clock.calls.count(name) for name in clock.calls} == {"linen 1": 24, "nnx": 16, "linen 2": 8}
    assert {(a, b) for a, b in pairwise(clock.calls)} >= {("linen 1", "nnx"), ("nnx", "nnx")}


def test_a_pair_without_a_stepper_cannot_be_timed():
    with pytest.raises(NoStepper) as caught:
        bench_steps(HONEST, case_of(HONEST))
    assert str(caught.value) == (
        "forward[default,linen:nnx]: this pair's sides offer no stepper, so `harness bench` has nothing to time"
    )


def test_overhead_is_the_verified_run_over_the_bare_one(monkeypatch):
    costs = {"bare": iter([2.0, 4.0]), "verified": iter([3.0, 8.0])}
    asked = []

    def timed(how, ticket, goldens):
        asked.append((how, ticket, goldens))
        return next(costs[how])

    monkeypatch.setattr(overhead, "_timed", timed)
    ticket = expand("forward", HONEST.scenarios["forward"], pair=BENCH)[0]
    found = overhead.bench_overhead(ticket, Path("goldens"), 2)
    assert found == Ratio(median=1.75, low=1.5, high=2.0, a=3.0, b=5.5, rounds=2)
    assert asked == [(how, ticket, Path("goldens")) for how in ("bare", "verified")] * 2


def test_overhead_is_measured_in_processes_of_their_own(tmp_path):
    ticket = expand("forward", HONEST.scenarios["forward"], pair=BENCH)[0]
    found = overhead.bench_overhead(ticket, tmp_path / "goldens", 1)
    assert found.rounds == 1
    assert found.a > 0
    assert found.b > 0
    assert found.median == found.b / found.a


def test_a_process_that_fails_is_told_with_its_last_line():
    ticket = expand("gone", HONEST.scenarios["forward"], pair=BENCH)[0]
    with pytest.raises(RuntimeError, match=r"the bare run of gone\[default,linen:nnx\] failed: \[\"KeyError: 'gone'\""):
        overhead.bench_overhead(ticket, Path("goldens"), 1)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--rounds", "0"], "'0' is not a whole number from 1 on"),
        (["--rounds", "two"], "'two' is not a whole number from 1 on"),
        (["--scenario", "train_stepp"], "no scenario is called 'train_stepp': did you mean"),
        (["--pair", "nowhere_at_all:PAIR"], "nowhere_at_all cannot be imported"),
        (["--scenarios", "no_such_folder"], "no_such_folder is not a folder"),
        (["--json", "no_such_folder/figures.json"], "no_such_folder"),
        (["--pair", BENCH, "--scenario", "train"], "no scenario is called 'train'"),
    ],
)
def test_bad_usage(words, sentence, capsys):
    assert harness.cli.obeyed(["bench", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_a_scenario_whose_quick_label_does_not_exist_is_bad_usage(tmp_path, capsys):
    text = "from harness import Scenario\nSCENARIO = Scenario(why='w', program='forward', quick=('none',))\n"
    (tmp_path / "slow.py").write_text(text)
    assert harness.cli.obeyed(["bench", "--scenarios", str(tmp_path), "--scenario", "slow"]) == 2
    assert "scenario 'slow': quick=['none'] are no labels of its matrix" in capsys.readouterr().err


def test_to_bench_a_pair_without_a_stepper_is_bad_usage(capsys):
    code = harness.cli.obeyed(["bench", "--pair", BENCH, "--scenario", "forward"])
    assert "offer no stepper, so `harness bench` has nothing to time" in capsys.readouterr().err
    assert code == 2


def test_the_command_itself_is_timed_cold_warm_and_with_its_verdicts_known(monkeypatch, tmp_path, capsys):
    asked = []

    def run(command, env, **_):
        asked.append((command[3:-2], env["HARNESS_CACHE"], env["JAX_COMPILATION_CACHE_DIR"]))
        case = {"scenario": "forward", "seconds": 2.0, "verdict": {"proofs": [{"seconds": 0.5}]}}
        known = ["b", "c"] if "--reuse" in command else []
        content = {"scenarios": [case] * 3, "reuse": {"reused": known, "audited": ["a"]}}
        Path(command[-1]).write_text(json.dumps(content))
        return SimpleNamespace(returncode=0 if known else 3, stderr="")

    monkeypatch.setattr(runs, "subprocess", SimpleNamespace(run=run))
    path = tmp_path / "figures.json"
    words = ["bench", "run", "--pair", BENCH, "--scenario", "forward", "--jobs", "1", "--json", str(path)]
    assert harness.cli.obeyed(words) == 0
    same = ["run", "--scenario", "forward", "--jobs", "1", "--pair", BENCH]
    assert [each[0] for each in asked] == [[*same, how] for how in ("--fresh", "--fresh", "--reuse")]
    assert len({each[1:] for each in asked}) == 1
    found = json.loads(path.read_text())["run"]
    assert found["codes"] == {"cold": 3, "warm": 3, "unchanged": 0}
    assert (found["cases"], found["reused"], found["audited"]) == (3, 2, 1)
    text = capsys.readouterr().out
    assert "unchanged: 2 of 3 verdicts reused, 1 audited" in text
    assert text.splitlines()[-1].split() == ["forward", "3", "6.0", "1.5", "0.25"]


def test_run_and_proof_time_are_summed_by_scenario():
    proved = {"proofs": [{"seconds": 0.5}, {"seconds": 0.25}]}
    cases = [
        {"scenario": "a", "seconds": 2.0, "verdict": proved},
        {"scenario": "b", "seconds": 1.0, "verdict": {"proofs": []}},
        {"scenario": "a", "seconds": 3.0, "verdict": proved},
    ]
    assert runs.costs({"scenarios": cases}) == (
        runs.Cost(scenario="a", cases=2, running=5.0, proving=1.5),
        runs.Cost(scenario="b", cases=1, running=1.0, proving=0.0),
    )


def test_a_run_that_leaves_no_report_is_told_with_its_last_line():
    with pytest.raises(RuntimeError, match=r"the cold run failed: \[\"harness: no scenario is called 'gone'"):
        runs.bench_runs(["--scenario", "gone"])


def bench_of(**sizes):
    return StepBench(case="train[tiny]", sides=("linen", "nnx"), step=EVEN, dispatch=EVEN, noise=EVEN, bytes=sizes)


def test_the_table_says_which_side_is_over_which():
    text = _text([bench_of(temp=(100, 150), output=(64, 64))], EVEN, "train[tiny]")
    assert text.startswith("nnx over linen: median of paired ratios (least to largest)")
    assert "1.00 (0.50 to 2.00)" in text
    assert "1.500 (100 to 150)" in text
    assert "1.000 (64 to 64)" in text
    assert text.endswith("harness over bare programs, cold, train[tiny]: 1.00 (0.50 to 2.00), 0.25 s bare\n")


def test_a_step_without_temporary_memory_has_a_row():
    assert "train[tiny]" in _text([bench_of(temp=(0, 0), output=(64, 64))], EVEN, "train[tiny]")
