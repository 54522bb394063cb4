"""Which runs may not be compared, and that honest ones may."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import jax
import pytest
from flax import nnx

from harness.attestation import as_declared, attest, refusal
from harness.observation import Attestation, Failure
from harness.observe import observe
from harness.pair import Side
from harness.scenario import Run
from tests.harness import tiny_pairs
from tests.harness.fabricate import observation
from tests.harness.tiny_pairs import LINEN, NNX, case_of, forward, linen_outputs, mixed_outputs, nnx_outputs, side


def run(left: Side, right: Side):
    """Both sides' observations of one forward pass."""
    pair = tiny_pairs.pair_of(left, right)
    case = case_of(pair)
    return tuple(observe(pair.sides[each.side], case, each) for each in case.runs)


def refused(left: Side, right: Side) -> str:
    return refusal((left, right), *run(left, right))


def fabricated(who, modules, own, digest="c0ffee"):
    attested = Attestation(modules=dict.fromkeys(modules.split(), own), own=own, config_digest=digest)
    return replace(observation({"outputs": {"y": 0.5}}, who=who), attestation=attested)


def test_attest_sorts_what_was_found_and_tells_flax_from_the_code_base():
    found = {("nnx", "my.Net"), ("linen", "my.Block"), ("nnx", "flax.nnx.nn.linear.Linear"), ("nnx", "flaxen.Net")}
    attested = attest(SimpleNamespace(found=found), "c0ffee")
    assert list(attested.modules) == ["linen", "nnx"]
    assert attested.modules == {"linen": ("my.Block",), "nnx": ("flax.nnx.nn.linear.Linear", "flaxen.Net", "my.Net")}
    assert attested.own == ("flaxen.Net", "my.Block", "my.Net")
    assert attested.config_digest == "c0ffee"


def test_honest_sides_are_compared():
    left, right = run(LINEN, NNX)
    assert refusal((LINEN, NNX), left, right) == ""
    assert set(left.attestation.modules) == {"linen"}
    assert set(right.attestation.modules) == {"nnx"}
    bridged = side("bridged", "linen nnx", mixed_outputs)
    assert refused(LINEN, bridged) == refused(bridged, NNX) == ""


@pytest.mark.parametrize(
    ("lying", "sentence"),
    [
        (side("nnx", "nnx", linen_outputs), "side nnx declares nnx, but forward traced linen (tests.harness.tiny_p"),
        (side("nnx", "nnx", mixed_outputs), "side nnx declares nnx, but forward traced linen and nnx (tests.harn"),
        (side("bridged", "linen nnx", nnx_outputs), "side bridged declares linen and nnx, but forward traced nnx ("),
        (
            side("nnx", "nnx", None, forward=lambda case, run: {"outputs": {"y": case.inputs["x"]}}),
            "side nnx declares nnx, but forward traced no Flax module at all: the run went elsewhere than it says.",
        ),
    ],
    ids=["wholly", "one module", "too little", "nothing"],
)
def test_a_side_that_runs_something_else_is_refused(lying, sentence):
    assert refused(LINEN, lying).startswith(sentence)
    assert refused(lying, LINEN).startswith(sentence)


def test_one_implementation_under_two_names_is_refused():
    again = side("nnx", "linen", linen_outputs)
    found = refused(LINEN, again)
    assert "linen and nnx traced the same implementation (tests.harness.tiny_pairs.LinenLayer" in found
    assert found.endswith("proves nothing. Point one of them at the other implementation")
    assert refused(LINEN, replace(again, frameworks=frozenset())) == found


def test_two_implementations_in_one_framework_are_compared():
    other = side("other", "nnx", partial(nnx_outputs, kinds={"first": tiny_pairs.NnxFlat}))
    right = fabricated("nnx", "nnx", ("my.Net",))
    assert refusal((NNX, other), right, fabricated("other", "nnx", ("my.Net", "my.Flat"))) == ""
    assert "the same implementation" in refusal((NNX, other), right, fabricated("other", "nnx", ("my.Net",)))
    assert refused(NNX, other) == ""


class Inherited(tiny_pairs.NnxLayer):
    factor = 0.5


def test_an_implementation_that_differs_by_a_class_without_methods_is_compared():
    other = side("other", "nnx", partial(nnx_outputs, kinds={"second": Inherited}))
    assert refused(NNX, other) == ""


def test_one_side_against_itself_is_compared_as_a_relation_is():
    left, right = run(LINEN, NNX)
    assert refusal((LINEN, LINEN), left, left) == ""
    assert refusal((NNX, NNX), right, right) == ""
    assert "declares nnx" in refusal((NNX, NNX), left, left)


def test_runs_of_two_configurations_are_refused():
    left, right = fabricated("linen", "linen", ("my.A",)), fabricated("nnx", "nnx", ("my.B",), "1" * 64)
    assert refusal((LINEN, NNX), left, right) == "linen ran configuration c0ffee, nnx 111111111111"
    assert refusal((LINEN, NNX), left, fabricated("nnx", "nnx", ("my.B",))) == ""
    assert refusal((LINEN, LINEN), left, replace(left, attestation=replace(left.attestation, own=()))) == ""


def test_flax_modules_alone_are_no_implementation_of_ones_own():
    free = Side(name="free", frameworks=frozenset({"linen"}), programs={})
    left, right = (fabricated(who, "linen", ()) for who in ("linen", "free"))
    assert refusal((LINEN, free), left, right) == ""


def test_a_run_that_failed_or_left_no_evidence_is_not_misrouted():
    traced = fabricated("nnx", "linen", ("my.A",))
    assert not as_declared(NNX, traced)
    assert as_declared(LINEN, traced)
    assert as_declared(NNX, replace(traced, error=Failure(kind="KeyError", message="x")))
    assert as_declared(NNX, replace(traced, attestation=None))
    assert as_declared(replace(NNX, frameworks=frozenset()), traced)
    assert refusal((NNX, LINEN), replace(traced, attestation=None), traced) == ""


jitted_linen = jax.jit(lambda weights, x: linen_outputs(weights, x))
jitted_nnx = nnx.jit(lambda model, x: model(x))


def test_a_function_that_was_traced_before_is_attested_all_the_same():
    case = case_of(tiny_pairs.HONEST)
    net = tiny_pairs.NnxNet(case.weights, {})
    calls = []

    def counted(outputs):
        def program(case, run):
            calls.append(run.side)
            return forward(outputs, case, run)

        return program

    sides = (
        side("linen", "linen", None, forward=counted(lambda weights, x: jitted_linen(weights, x))),
        side("nnx", "nnx", None, forward=counted(lambda weights, x: jitted_nnx(net, x))),
    )
    for each in sides:
        first = observe(each, case, Run(side=each.name, program="forward"))
        again = observe(each, case, Run(side=each.name, program="forward"))
        layer = f"{tiny_pairs.__name__}.{each.name.capitalize()}Layer"
        for found in (first, again):
            assert set(found.attestation.modules) == {each.name}
            assert layer in found.attestation.own
        assert first.channels["outputs"]["y"].tobytes() == again.channels["outputs"]["y"].tobytes()
    assert calls.count("linen") == 2  # the caches were dropped, so the second run was traced as well


def hidden_linen(weights, x):
    """NNX, but the last layer is a function that ran Linen when it was traced."""
    return {**nnx_outputs(weights, x), "third": jitted_linen(weights, x)["third"]}


def test_a_module_of_the_other_framework_inside_a_function_traced_before_is_seen():
    left = side("linen", "linen", lambda weights, x: jitted_linen(weights, x))
    right = side("nnx", "nnx", hidden_linen)
    assert "declares nnx, but forward traced linen and nnx" in refused(left, right)


def own_nnx_layer(weights, x):
    """Linen, but the last layer is an NNX class that does not exist before the program runs."""

    class Made(nnx.Module):
        def __call__(self, y):
            return y @ weights["third/kernel"]

    seen = linen_outputs(weights, x)
    return {**seen, "third": Made()(seen["second"])}


def test_a_class_that_the_program_makes_is_seen():
    assert "declares linen, but forward traced linen and nnx" in refused(side("linen", "linen", own_nnx_layer), NNX)
