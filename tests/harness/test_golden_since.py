"""What moved since a golden was accepted: told in every verdict, and the one case in which drift needs no human."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from harness.allowance import Allowance
from harness.comparison import compare
from harness.golden import accept, diff, held, load
from harness.golden.acceptance import candidate
from harness.golden.document import Document, case_of, parse
from harness.golden.since import attributed
from harness.judge import Evidence, judge
from harness.proof import Proven
from harness.report import Report, machine, markdown, table
from harness.verdict import Ending, Rung
from harness.verdict_json import from_json, to_json
from tests.harness.accepted_goldens import DIGEST, KEY, LARGE, NAME, at_a_desk, changed, channels
from tests.harness.fabricate import ENVIRONMENT, generic, observation

_desk = pytest.fixture(autouse=True)(at_a_desk)

GRAPHS = {"train/start": "s1:m", "train/step": "s2:m"}
NEWER = replace(ENVIRONMENT, jax="0.12.0.1", jaxlib="0.12.0", commit="other")


def accepted(folder, graphs=GRAPHS, seen=None):
    case = replace(case_of(seen or observation(channels()), DIGEST), graphs=graphs)
    candidate(folder, Document(scenario=NAME, cases={KEY: case}))
    accept(folder, NAME)


def proven(part, digest, equal=1):
    return Proven(
        part=part, equal=equal, outputs=1, operations=(3, 3), rewrites={}, parting="", marks=(), seconds=0.1,
        digests=(digest, digest),
    )  # fmt: skip


def judged(folder, left, right=None, **how):
    """how: graphs, environment, equal (outputs of one) and allow (allowances), where they are not the usual ones."""
    how = {"graphs": GRAPHS, "environment": NEWER, "equal": 1, "allow": (), **how}
    graphs, environment, equal, allow = (how[name] for name in ("graphs", "environment", "equal", "allow"))
    left = replace(left, environment=environment)
    right = replace(right or left, who="nnx", environment=environment)
    golden = held(load(folder, NAME, KEY, DIGEST), left, right)
    evidence = Evidence(left=left, right=right, parity=compare(left, right, allow), golden=golden)
    verdict = judge("llama2[a,linen:nnx]", NAME, ("linen", "nnx"), evidence)
    proofs = tuple(proven(part, digest, equal) for part, digest in graphs.items())
    rung = Rung.PROVED if verdict.rung is Rung.BITWISE and equal and proofs else verdict.rung
    return attributed(replace(verdict, proofs=proofs, rung=rung))


def far(by=0.25):
    """The observation with drifted logits."""
    logits = generic((3, 5))
    logits[1, 2] += by
    return changed("outputs", "logits", logits)


def large(value):
    return changed("updates", "layers/0/w", generic(LARGE, seed=3) + np.float32(value))


def test_graphs_stand_in_the_header_and_come_back(tmp_path):
    accepted(tmp_path)
    header, body = (tmp_path / f"{NAME}.{suffix}" for suffix in ("json", "npz"))
    assert json.loads(header.read_text())["cases"][KEY]["graphs"] == GRAPHS
    assert parse(header.read_bytes(), body.read_bytes()).cases[KEY].graphs == GRAPHS
    accepted(tmp_path, {})
    assert "graphs" not in json.loads(header.read_text())["cases"][KEY]
    assert load(tmp_path, NAME, KEY, DIGEST).graphs == {}


@pytest.mark.parametrize(
    ("recorded", "now", "environment", "sentence"),
    [
        (GRAPHS, GRAPHS, ENVIRONMENT, "neither the graph nor the toolchain moved"),
        (
            GRAPHS,
            GRAPHS,
            NEWER,
            "the toolchain moved (jax 0.10.2 -> 0.12.0.1, jaxlib 0.10.2 -> 0.12.0), the graph did not",
        ),
        (GRAPHS, {**GRAPHS, "train/step": "s3:m"}, ENVIRONMENT, "the graph moved (train/step)"),
        (GRAPHS, {**GRAPHS, "train/step": "s2:n"}, ENVIRONMENT, "the graph moved (train/step)"),
        (
            GRAPHS,
            {"train/step": "s2:m", "train/more": "s4:m"},
            ENVIRONMENT,
            "the graph moved (train/start, train/more)",
        ),
        (
            GRAPHS,
            {**GRAPHS, "train/step": "s3:m"},
            NEWER,
            "the graph moved (train/step); the toolchain moved (jax 0.10.2 -> 0.12.0.1, jaxlib 0.10.2 -> 0.12.0)",
        ),
        ({}, GRAPHS, ENVIRONMENT, "the golden records no graph; the toolchain did not move"),
        (GRAPHS, {}, ENVIRONMENT, "this run's graph is not known; the toolchain did not move"),
        (
            {"train/start": "s1:m"},
            {**GRAPHS, "train/step": ""},
            ENVIRONMENT,
            "whether the graph moved cannot be told (train/step holds what is equal to nothing); "
            "the toolchain did not move",
        ),
    ],
)
def test_the_verdict_says_which_moved(tmp_path, recorded, now, environment, sentence):
    accepted(tmp_path, recorded)
    near = judged(tmp_path, observation(channels()), graphs=now, environment=environment)
    assert near.since_golden == sentence
    assert (near.ending, near.detail) == (None, "")
    assert near.passed


def test_a_drifted_case_says_so_in_its_detail_and_in_every_report(tmp_path):
    accepted(tmp_path)
    verdict = judged(tmp_path, far(), environment=ENVIRONMENT)
    assert verdict.ending is Ending.DRIFTED
    assert verdict.detail.startswith("both sides left the golden: outputs/logits differs at [1, 2]")
    assert verdict.detail.endswith("; neither the graph nor the toolchain moved")
    report = Report(verdicts=(verdict,), environment=ENVIRONMENT, command="harness", started="now", seconds=1.0)
    for text in (table(report), markdown(report), machine(report)):
        assert "neither the graph nor the toolchain moved" in " ".join(text.split())
    assert from_json(json.loads(json.dumps(to_json(verdict)))) == verdict


@pytest.mark.parametrize(("seen", "size"), [(partial(far, 8e-4), 8e-4), (partial(large, 1e-3), 1e-3)])
def test_a_newer_compiler_of_unchanged_graphs_may_drift_and_the_report_keeps_by_how_much(tmp_path, seen, size):
    accepted(tmp_path)
    assert judged(tmp_path, seen(), environment=ENVIRONMENT).ending is Ending.DRIFTED
    verdict = judged(tmp_path, seen())
    assert verdict.passed
    assert (verdict.ending, verdict.moved, verdict.detail, verdict.rung) == (None, "nobody", "", Rung.PROVED)
    assert verdict.since_golden.endswith("the graph did not: the drift is the compiler's")
    report = Report(verdicts=(verdict,), environment=NEWER, command="harness", started="now", seconds=1.0)
    text = " ".join(table(report).split())
    assert "the drift is the compiler's; the largest in llama2[a,linen:nnx]: " in text
    assert float(text.split("max abs ")[1].split(",")[0].rstrip(";")) == pytest.approx(size, rel=0.01)
    assert text.endswith("The flag may be flipped.")


def odd(name, value):
    return changed("outputs", name, value)


UNEXCUSED = {
    "a change of value": far,
    "a change of a sampled value": lambda: large(9.0),
    "an integer": lambda: odd("tokens", generic((4,), np.int32) + 1),
    "an infinity": lambda: odd("half", np.full((7,), np.inf, generic((7,)).astype("float16").dtype)),
    "something not finite": lambda: odd("odd", np.array([np.nan, 1.5, 3.0, -0.0], np.float32)),
    "a shape": lambda: odd("logits", generic((5, 3))),
    "a name": lambda: odd("another", generic((2,))),
    "text": lambda: changed("structure", "sha256", np.array("y")),
    "a complex number": lambda: odd("phase", np.array([9.5 - 2j, 3j], np.complex64)),
}


@pytest.mark.parametrize("what", UNEXCUSED)
def test_a_compiler_is_no_excuse_for(tmp_path, what):
    accepted(tmp_path)
    verdict = judged(tmp_path, UNEXCUSED[what]())
    assert verdict.ending is Ending.DRIFTED
    assert verdict.detail.endswith("the graph did not")


def test_what_a_compiled_program_needs_is_the_compilers_affair(tmp_path):
    def needing(**sizes):
        return observation({**channels(), "resources": {name: np.asarray(size) for name, size in sizes.items()}})

    accepted(tmp_path, seen=needing(temp=4096))
    assert judged(tmp_path, needing(temp=9000), environment=ENVIRONMENT).ending is Ending.DRIFTED
    assert judged(tmp_path, needing(temp=9000)).passed
    assert judged(tmp_path, needing(temp=4096, more=1)).ending is Ending.DRIFTED


def test_sampled_integers_are_not_excused_either(tmp_path):
    many = np.arange(5000, dtype=np.int32)
    accepted(tmp_path, seen=changed("updates", "steps", many))
    assert judged(tmp_path, changed("updates", "steps", many)).passed
    assert judged(tmp_path, changed("updates", "steps", many + 1)).ending is Ending.DRIFTED


@pytest.mark.parametrize(
    "what",
    [
        {"graphs": {**GRAPHS, "train/step": "s3:m"}},
        {"graphs": {**GRAPHS, "train/step": "s2:n"}},
        {"graphs": {"train/start": "s1:m"}},
        {"graphs": {**GRAPHS, "train/more": "s3:m"}},
        {"graphs": {**GRAPHS, "train/step": ""}},
        {"graphs": {}},
        {"environment": ENVIRONMENT},
        {"environment": replace(ENVIRONMENT, flax="0.12.12", commit="other")},
        {"environment": replace(NEWER, xla_flags="--xla_cpu_enable_fast_math=true")},
        {"environment": replace(NEWER, device="1 x H100", platform="gpu")},
    ],
)
def test_nothing_is_excused_unless_every_graph_stayed_and_only_the_compiler_is_another(tmp_path, what):
    accepted(tmp_path)
    assert judged(tmp_path, far(8e-4), **what).ending is Ending.DRIFTED


def test_a_golden_without_graphs_excuses_nothing(tmp_path):
    accepted(tmp_path, {})
    verdict = judged(tmp_path, far(8e-4))
    assert verdict.ending is Ending.DRIFTED
    assert "the golden records no graph; the toolchain moved (jax" in verdict.detail


def test_a_right_side_that_alone_left_the_golden_is_excused_by_a_proof_only(tmp_path):
    accepted(tmp_path)
    room = (Allowance(pattern="outputs/logits", atol=1.0, because="a test"),)
    alone = {"left": observation(channels()), "right": far(8e-4), "allow": room}
    assert judged(tmp_path, **alone, equal=0).ending is Ending.DRIFTED
    assert judged(tmp_path, **alone).passed
    unused = (*room, Allowance(pattern="outputs/none", atol=1.0, because="nothing"))
    assert judged(tmp_path, **{**alone, "allow": unused}).ending is Ending.UNUSED_ALLOWANCE


def test_sides_that_part_are_not_excused(tmp_path):
    accepted(tmp_path)
    verdict = judged(tmp_path, observation(channels()), far())
    assert (verdict.rung, verdict.moved) == (Rung.DIVERGED, "nnx")
    assert not verdict.passed


def test_golden_diff_says_when_a_graph_changes(tmp_path):
    accepted(tmp_path, {})
    case = case_of(observation(channels()), DIGEST)
    candidate(tmp_path, Document(scenario=NAME, cases={KEY: replace(case, graphs=GRAPHS)}))
    assert diff(tmp_path, NAME) == [f"llama2/{KEY}: graphs: recorded for the first time (train/start, train/step)"]
    accept(tmp_path, NAME)
    candidate(tmp_path, Document(scenario=NAME, cases={KEY: replace(case, graphs={"train/step": "s3:m"})}))
    assert diff(tmp_path, NAME) == [
        f"llama2/{KEY}: the graph of train/start changed: s1… with marks m… -> none",
        f"llama2/{KEY}: the graph of train/step changed: s2… with marks m… -> s3… with marks m…",
    ]
