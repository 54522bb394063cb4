"""Module, step and causes in a verdict; and watching that does not leave what is verified as it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.causes import Cause, Forced
from harness.comparison import compare
from harness.judge import NotHeld
from harness.observe import observe
from harness.pair import Pair, Side
from harness.placing import with_place
from harness.report.causes import cause_text, step_text
from harness.report.words import why
from harness.steps import first_step
from harness.untouched import digests, disturbed
from harness.verdict import Ending, Rung
from harness.verdict_json import from_json, to_json
from harness.verify import judged
from tests.harness.fabricate import generic
from tests.harness.forced_pair import NnxPart, pair_of
from tests.harness.tiny_pairs import case_of


def placed(pair, program):
    case = case_of(pair, program)
    verdict, runs = judged(pair, case, lambda *_: NotHeld(because="a test needs none"))
    return with_place(pair, case, verdict, runs)


def test_the_cause_stands_in_the_verdict_and_in_every_report():
    verdict = placed(pair_of(("head", "backward")), "grad")
    assert (verdict.module, verdict.step, verdict.ending) == ("head", None, None)
    assert verdict.forced.certain == "head"
    assert from_json(to_json(verdict)) == verdict
    assert "Origin: head (the cotangents of its inputs differ by " in why(verdict)


@pytest.mark.parametrize("program", ["forward", "grad"])  # with a graph to compare, and without
def test_code_that_computes_something_else_each_time_is_not_laid_to_the_watching(program, monkeypatch):
    original, traces = NnxPart.__call__, []

    def counted(self, x):
        traces.append(x)
        return original(self, x) * (1.0 + 0.0625 * len(traces))

    monkeypatch.setattr(NnxPart, "__call__", counted)
    verdict = placed(pair_of(("head", "forward")), program)
    assert (verdict.rung, verdict.ending) == (Rung.DIVERGED, None)


def test_a_tap_that_stays_is_caught_by_the_graph(monkeypatch):
    def tampering(pair, case):
        original = NnxPart.__call__
        monkeypatch.setattr(NnxPart, "__call__", lambda self, x: original(self, x) * 1.0625)
        return Forced(causes=(CAUSE,))

    monkeypatch.setattr("harness.forcing.forced", tampering)
    verdict = placed(pair_of(("head", "forward")), "forward")
    assert (verdict.rung, verdict.ending, verdict.forced) == (Rung.DIVERGED, Ending.ERROR, None)
    assert "watching changed the graph of forward/call (second run, nnx)" in verdict.detail


def test_without_a_graph_the_runs_are_made_again_and_compared(monkeypatch):
    pair = pair_of()
    case = case_of(pair, "grad")
    assert digests(pair, case) == {}
    runs = tuple(observe(pair.sides[run.side], case, run) for run in case.runs)
    assert disturbed(pair, case, {}, runs) == ""
    original = NnxPart.__call__
    monkeypatch.setattr(NnxPart, "__call__", lambda self, x: original(self, x) * 1.0625)
    assert "nnx gives something else after it was watched: loss/square" in disturbed(pair, case, {}, runs)


CAUSE = Cause(module="head", ways=("output",), seen="", others=(), size=0.5, top=2.0, rounding=False)


def test_the_only_cause_that_is_more_than_rounding_is_certain():
    near = replace(CAUSE, module="embed", rounding=True)
    assert Forced(causes=(near, CAUSE)).certain == "head"
    assert Forced(causes=(replace(CAUSE, module="embed"), CAUSE)).certain == ""
    text = cause_text(Forced(causes=(near, CAUSE), unpaired=("act",)))
    assert text.startswith("origin: head (its output differs by 0.5 where nothing is larger than 2 given")
    assert "; 1 place besides, by no more than roundings; not paired, so taken for their callers' own code: act" in text
    assert cause_text(Forced(note="why")) == "origin not told: why"


def counting(name, slips, named):
    """A side whose steps count up to `steps`; from step `slips` on it counts otherwise."""

    def count(case, run):
        steps = {**case.settings, **run.settings}["steps"]
        values = [np.float32(step + (step >= slips)) for step in range(1, steps + 1)]
        seen = {f"{named}{step}/value": value for step, value in enumerate(values)} if named else {}
        return {"loss": seen, "updates": {"w": values[-1]}} if named else {"updates": {"w": values[-1]}}

    return Side(name=name, frameworks=frozenset(), programs={"count": count})


@pytest.mark.parametrize("slips", [1, 2, 4, 5])
@pytest.mark.parametrize("named", ["step", "step ", ""])
def test_the_first_step_is_told_by_names_or_by_shorter_runs(slips, named):
    sides = {name: counting(name, at, named) for name, at in (("a", 99), ("b", slips))}
    pair = Pair(name="p", sides=sides, prepare=lambda settings, seed: ({"w": generic((2,))}, {}))
    case = case_of(pair, "count", settings={"steps": 5})
    runs = [observe(sides[run.side], case, run) for run in case.runs]
    assert first_step(pair, case, compare(*runs, ()), runs[0]) == (slips, 5)
    assert step_text((slips, 5)) == f"first at step {slips} of 5"


def test_a_run_of_one_step_has_no_first_one():
    pair = pair_of(("head", "forward"))
    case = case_of(pair, "forward")
    runs = [observe(pair.sides[run.side], case, run) for run in case.runs]
    assert first_step(pair, case, compare(*runs, ()), runs[0]) is None
