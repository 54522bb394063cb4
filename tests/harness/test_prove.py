"""`harness prove` as a user types it, and what proofs do to verdicts."""

from __future__ import annotations

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from harness.cli import obeyed
from harness.judge import NotHeld
from harness.pair import NoGraphs, Pair, Side
from harness.proving import proofs, with_proofs
from harness.recorder import lower, record
from harness.verdict import Rung
from harness.verify import judged
from tests.harness.tiny_pairs import case_of

ROW = jax.ShapeDtypeStruct((3, 5), "float32")


@pytest.fixture
def recordings(tmp_path):
    """Paths of two recordings that are equal in one output of two."""
    paths = [tmp_path / "left.zip", tmp_path / "right.zip"]
    for path, by in zip(paths, (2.0, 3.0), strict=True):
        record(path, lambda x, by=by: {"same": jnp.sin(x), "other": x * by}, ROW)
    return [str(path) for path in paths]


def test_equal_recordings_are_proved(recordings, capsys, tmp_path):
    path = tmp_path / "proof.json"
    assert obeyed(["prove", recordings[0], recordings[0], "--json", str(path)]) == 0
    assert "PROVED, 2 of 2 outputs are equal for all inputs" in capsys.readouterr().out
    (found,) = json.loads(path.read_text())
    assert (found["proved"], found["equal"]) == (True, ["other", "same"])


def test_recordings_that_differ_say_where(recordings, capsys):
    assert obeyed(["prove", *recordings]) == 1
    out = capsys.readouterr().out
    assert "NOT PROVED, 1 of 2 outputs" in out
    assert "not equal: other" in out
    assert "left: multiply(0, 2.0) -> f32[3,5] at " in out
    assert "right: multiply(0, 3.0) -> f32[3,5] at " in out
    assert "test_prove.py:" in out


BAD = {
    "nothing named": ([], "name two recordings"),
    "one recording": (["left.zip"], "name two recordings"),
    "both ways at once": (["a", "b", "--model", "llama2-7b"], "name two recordings"),
    "unknown model": (["--model", "llama2-7"], "did you mean llama2-7b"),
    "unknown side": (["--model", "llama2-7b", "--sides", "linen:nnnx"], "no side is called 'nnnx'"),
    "one side": (["--model", "llama2-7b", "--sides", "linen"], "write it as LEFT:RIGHT"),
    "unknown program": (["--model", "qwen3-0.6b", "--program", "taps"], "program 'taps' offers no graph"),
    "no folder for the report": (["--model", "qwen3-0.6b", "--json", "nowhere/x.json"], "nowhere does not exist"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_done_as_typed_is_said_in_one_line(what, capsys):
    words, said = BAD[what]
    assert obeyed(["prove", *words]) == 2
    assert said in capsys.readouterr().err


def test_the_largest_preset_is_proved_at_full_size(capsys):
    assert obeyed(["prove", "--model", "llama3.1-405b"]) == 0
    out = capsys.readouterr().out
    assert "train/step" in out
    assert "3422 of 3422 outputs are equal for all inputs" in out
    assert "3 of 3 proved" in out


def side(name, function, parts=("whole",)):
    """A side whose program runs `function` of x, and offers it as a graph."""

    def run(case, _run):
        return {"outputs": {"y": np.asarray(jax.jit(function)(case.inputs["x"]))}}

    def graphs(_settings):
        arguments = ({"x": jax.ShapeDtypeStruct((3, 5), "float32")},)
        return {"act": {part: lambda: lower(lambda v: {"y": function(v["x"])}, arguments) for part in parts}}

    return Side(name=name, frameworks=frozenset(), programs={"act": run}, graphs=graphs)


def verdict_of(left, right):
    inputs = {"x": np.random.default_rng(5).normal(size=(3, 5)).astype(np.float32)}
    pair = Pair(name="p", sides={s.name: s for s in (left, right)}, prepare=lambda settings, seed: ({}, inputs))
    case = case_of(pair, "act")
    return with_proofs(pair, case, judged(pair, case, lambda *_: NotHeld(because="a test needs none"))[0])


def wave(x):
    return jnp.sin(x) * 2.0


def test_bitwise_runs_whose_graphs_agree_are_proved():
    verdict = verdict_of(side("linen", wave), side("nnx", lambda x: 2.0 * jnp.sin(x)))
    assert verdict.rung is Rung.PROVED
    assert verdict.passed
    assert [(each.part, each.equal, each.outputs) for each in verdict.proofs] == [("act/whole", 1, 1)]


def test_bitwise_runs_whose_graphs_differ_say_at_which_line():
    verdict = verdict_of(side("linen", wave), side("nnx", lambda x: jnp.sin(x) + jnp.sin(x)))
    assert verdict.rung is Rung.BITWISE
    assert verdict.passed
    assert "not PROVED: act/whole: 1 of 1 outputs: linen: multiply(sine f32[3,5], 2.0)" in verdict.why_not_higher
    assert "test_prove.py:" in verdict.why_not_higher


def test_runs_that_differ_keep_their_verdict_and_gain_the_operation():
    verdict = verdict_of(side("linen", wave), side("nnx", lambda x: jnp.sin(x) * 2.5))
    assert verdict.rung is Rung.DIVERGED
    assert "nnx: multiply(sine f32[3,5], 2.5)" in verdict.proofs[0].parting


def kept(x):
    return jax.grad(lambda y: (jax.checkpoint(lambda z: jnp.sin(jnp.sin(z)))(y) * y).sum())(x)


def lost(x):
    return jax.grad(lambda y: ((lambda z: jnp.sin(jnp.sin(z)))(y) * y).sum())(x)


def test_a_lost_remat_fails_though_every_value_agrees():
    verdict = verdict_of(side("linen", kept), side("nnx", lost))
    assert verdict.rung is Rung.DIVERGED
    assert not verdict.passed
    assert verdict.first.channel == "graph"
    assert "remat barrier only on linen" in verdict.first.left
    assert verdict.moved == "nnx"


def test_parts_that_do_not_fit_prove_nothing():
    verdict = verdict_of(side("linen", wave), side("nnx", wave, parts=("whole", "more")))
    assert verdict.rung is Rung.BITWISE
    assert "compiles different parts: linen whole; nnx whole, more" in verdict.why_not_higher


def test_a_program_that_cannot_be_lowered_is_said_and_not_raised():
    def broken(x):
        if isinstance(x, jax.core.Tracer) and x.shape == (3, 5) and broken.once:
            raise TypeError("cannot be traced twice")
        return wave(x)

    broken.once = False
    left, right = side("linen", wave), side("nnx", broken)
    inner = right.graphs

    def graphs(settings):
        broken.once = True
        return inner(settings)

    verdict = verdict_of(left, replace(right, graphs=graphs))
    assert verdict.rung is Rung.BITWISE
    assert "not PROVED: lowering raised TypeError: cannot be traced twice" in verdict.why_not_higher


def test_sides_without_graphs_are_told_so():
    bare = [replace(side(name, wave), graphs=lambda settings: {}) for name in ("linen", "nnx")]
    assert "program 'act' offers no graph" in verdict_of(*bare).why_not_higher
    with pytest.raises(NoGraphs):
        list(proofs((bare[0], bare[1]), ({}, {}), "act"))
