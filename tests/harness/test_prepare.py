"""A ticket becomes a case: its weights, its golden's key, and a digest that names it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.allowance import Allowance
from harness.digest import of_case
from harness.discover import expand
from harness.prepare import prepare
from harness.scenario import Run, Scenario
from tests.harness.tiny_pairs import HONEST, LINEN, NNX, draw, linen_outputs, pair_of, side

ALLOW = (Allowance(pattern="outputs/*", atol=1e-3, because="summed in another order"),)
SCENARIO = Scenario(
    why="a test",
    program="forward",
    settings={"scale": 0.5, "wide": 1.5},
    matrix={"plain": {}, "wider": {"wide": 2.5}},
    seed=7,
    allow=ALLOW,
)


def cases(scenario=SCENARIO, pair=HONEST):
    return [prepare(pair, scenario, ticket) for ticket in expand("tiny", scenario)]


def test_a_case_holds_all_that_a_run_needs():
    plain, wider = cases()
    assert (plain.name, plain.scenario, plain.label, plain.seed) == ("tiny[plain,linen:nnx]", "tiny", "plain", 7)
    assert (plain.settings, wider.settings) == ({"scale": 0.5, "wide": 1.5}, {"scale": 0.5, "wide": 2.5})
    assert plain.runs == (Run(side="linen", program="forward"), Run(side="nnx", program="forward"))
    assert plain.allow == ALLOW
    weights, inputs = draw({"wide": 1.5}, 7)
    assert list(plain.weights) == ["first/kernel", "second/kernel", "third/kernel"]
    assert {name: value.tobytes() for name, value in plain.weights.items()} == {
        name: value.tobytes() for name, value in weights.items()
    }
    np.testing.assert_array_equal(plain.inputs["x"], inputs["x"])
    assert plain.digest == of_case({"settings": plain.settings, "program": "forward", "seed": 7}, weights, inputs)


def test_the_golden_is_named_by_the_label_and_by_the_ruler_if_it_is_not_the_pairs_first_side():
    bridged = side("bridged", "linen", linen_outputs)
    pair = pair_of(LINEN, NNX, bridged)
    between = (("linen", "nnx"), ("linen", "bridged"), ("nnx", "bridged"), ("bridged", "linen"))
    found = [(case.runs[0].side, case.golden) for case in cases(replace(SCENARIO, sides=between, matrix={}), pair)]
    assert found == [
        ("linen", "default"),
        ("linen", "default"),
        ("nnx", "default,nnx"),
        ("bridged", "default,bridged"),
    ]
    assert [case.golden for case in cases()] == ["plain", "wider"]
    relation = replace(SCENARIO, relation=(("grad", {}), ("taps", {})), matrix={"wider": {}})
    assert [(case.name, case.golden) for case in cases(relation)] == [
        ("tiny[wider,linen:grad]", "wider"),
        ("tiny[wider,linen:taps]", "wider"),
        ("tiny[wider,nnx:grad]", "wider,nnx"),
        ("tiny[wider,nnx:taps]", "wider,nnx"),
    ]


def test_cases_that_share_a_golden_share_their_digest():
    bridged = side("bridged", "linen", linen_outputs)
    scenario = replace(SCENARIO, sides=(("linen", "nnx"), ("linen", "bridged")), matrix={})
    first, second = cases(scenario, pair_of(LINEN, NNX, bridged))
    assert (first.golden, first.digest) == (second.golden, second.digest)
    related = cases(replace(SCENARIO, relation=(("grad", {}), ("taps", {"scale": 3.0})), matrix={}))
    assert len({case.digest for case in related}) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"scale": 0.25, "wide": 1.5}},
        {"settings": {"scale": 0.5, "wide": 1.5, "more": None}},
        {"settings": {"scale": 0.5, "wide": float(np.nextafter(1.5, 2))}},
        {"program": "grad"},
        {"seed": 8},
    ],
)
def test_what_changes_the_case_changes_its_digest(change):
    before, after = cases()[0], cases(replace(SCENARIO, **change))[0]
    assert before.digest == cases()[0].digest
    assert before.digest != after.digest


def test_weights_and_inputs_change_the_digest_even_if_nothing_that_is_declared_changed():
    def another(kind, name):
        def drawn(settings, seed):
            values = dict(zip(("weights", "inputs"), draw(settings, seed), strict=True))
            moved = {**values[kind], name: values[kind][name].copy()}
            moved[name].flat[-1] = np.nextafter(moved[name].flat[-1], np.float32(9))
            values[kind] = moved
            return values["weights"], values["inputs"]

        return cases(pair=replace(HONEST, prepare=drawn))[0].digest

    digests = {cases()[0].digest, another("weights", "second/kernel"), another("inputs", "x")}
    assert len(digests) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"why": "another reason"},
        {"allow": ()},
        {"quick": ("plain",)},
        {"faults": ("lost_bias",)},
        {"seconds": 3.0, "gibibytes": 0.5},
    ],
)
def test_what_does_not_change_the_numbers_leaves_the_golden_fresh(change):
    assert [case.digest for case in cases(replace(SCENARIO, **change))] == [case.digest for case in cases()]


def test_nobody_writes_to_the_weights_and_inputs():
    case = cases()[0]
    assert not any(value.flags.writeable for value in (*case.weights.values(), *case.inputs.values()))
