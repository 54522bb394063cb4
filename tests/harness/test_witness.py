"""What a witness sees, and that nothing is left behind or changed by its looking."""

from __future__ import annotations

import sys

import flax.linen as nn
import jax
import numpy as np
import pytest
from flax import nnx

from harness.witness import thoroughly, witnessed
from tests.harness import tiny_pairs

HERE, PAIRS = __name__, tiny_pairs.__name__
MONITORED = hasattr(sys, "monitoring")
X = np.random.default_rng(3).standard_normal((4, 7), dtype="float32")
WEIGHTS, _ = tiny_pairs.draw({}, 5)

both = pytest.mark.parametrize("watch", [witnessed, thoroughly])


def own(witness):
    return {(framework, name) for framework, name in witness.found if not name.startswith("flax.")}


def nnx_classes():
    found, todo = set(), [nnx.Module]
    while todo:
        for cls in todo.pop().__subclasses__():
            if cls not in found:
                found.add(cls)
                todo.append(cls)
    return found


def methods():
    """Every attribute of every NNX class, by identity, and what watches this thread."""
    watching = sys.monitoring.get_tool(4) if MONITORED else None
    return {cls: dict(vars(cls)) for cls in nnx_classes()}, sys.getprofile(), watching


def assert_restored(before):
    after = methods()
    assert after[1:] == before[1:]
    for cls, attributes in before[0].items():
        now = after[0][cls]
        assert now.keys() == attributes.keys()
        assert [name for name in now if now[name] is not attributes[name]] == []


@both
def test_the_modules_of_both_frameworks_are_found_with_those_inside_them(watch):
    with watch() as witness:
        tiny_pairs.linen_outputs(WEIGHTS, X)
    assert own(witness) == {("linen", f"{PAIRS}.LinenNet"), ("linen", f"{PAIRS}.LinenLayer")}
    with watch() as witness:
        tiny_pairs.nnx_outputs(WEIGHTS, X, {"second": tiny_pairs.NnxFlat})
    assert own(witness) >= {("nnx", f"{PAIRS}.{name}") for name in ("NnxNet", "NnxLayer", "NnxFlat")}
    assert {framework for framework, _ in witness.found} == {"nnx"}


@both
def test_the_modules_that_come_with_flax_are_found(watch):
    linear = nnx.Linear(7, 3, rngs=nnx.Rngs(0))
    with watch() as witness:
        nn.Dense(3).apply({"params": {"kernel": linear.kernel[...], "bias": linear.bias[...]}}, X)
        linear(X)
    assert {("linen", "flax.linen.linear.Dense"), ("nnx", "flax.nnx.nn.linear.Linear")} <= witness.found
    assert own(witness) == set()


@both
def test_classes_made_inside_the_block_are_found(watch):
    before = methods()
    with watch() as witness:

        class InsideLinen(nn.Module):
            @nn.compact
            def __call__(self, x):
                return 3 * x

        class InsideNnx(nnx.Module):
            def __call__(self, x):
                return 3 * x

        InsideLinen().apply({}, X)
        InsideNnx()(X)
    names = {(framework, name.rpartition(".")[2]) for framework, name in own(witness)}
    assert names == {("linen", "InsideLinen"), ("nnx", "InsideNnx")}
    assert_restored(before)
    assert not hasattr(InsideNnx.__call__, "__wrapped__")


@both
def test_what_is_traced_is_found_too(watch):
    net = tiny_pairs.NnxNet(WEIGHTS, {})
    with watch() as witness:
        jax.eval_shape(jax.jit(lambda w, x: tiny_pairs.linen_outputs(w, x)), WEIGHTS, X)
        nnx.jit(lambda model, x: model(x))(net, X)
    assert {("linen", f"{PAIRS}.LinenLayer"), ("nnx", f"{PAIRS}.NnxLayer")} <= witness.found


@both
def test_a_module_that_a_closure_holds_on_to_is_found(watch):
    net = Closing()
    with watch() as witness:
        net(X)
    assert ("nnx", f"{HERE}.Closing") in witness.found


class Closing(nnx.Module):
    """`self` is a cell, not a plain local variable, when its method starts."""

    def __call__(self, x):
        return (lambda: (self, 2 * x))()[1]


@both
def test_nothing_is_seen_after_the_block(watch):
    with watch() as witness:
        tiny_pairs.linen_outputs(WEIGHTS, X)
    before = set(witness.found)
    tiny_pairs.nnx_outputs(WEIGHTS, X)
    nn.Dense(3).init(jax.random.key(2), X)
    assert witness.found == before


@both
def test_everything_is_as_it_was_afterwards(watch):
    before = methods()
    with watch():
        tiny_pairs.nnx_outputs(WEIGHTS, X)
        tiny_pairs.linen_outputs(WEIGHTS, X)
    assert_restored(before)


@both
def test_everything_is_as_it_was_after_an_exception(watch):
    before = methods()
    with pytest.raises(ZeroDivisionError), watch():
        1 / 0  # noqa: B018
    with pytest.raises((TypeError, ValueError)), watch():
        tiny_pairs.nnx_outputs(WEIGHTS, X[:, :6])
    assert_restored(before)
    with watch() as witness:
        tiny_pairs.nnx_outputs(WEIGHTS, X)
    assert ("nnx", f"{PAIRS}.NnxNet") in witness.found


def test_another_profiler_takes_over_again_afterwards():
    def other(frame, event, argument):
        return None

    before = sys.getprofile()
    sys.setprofile(other)
    try:
        with thoroughly() as witness:
            tiny_pairs.nnx_outputs(WEIGHTS, X)
        after = sys.getprofile()
    finally:
        sys.setprofile(before)
    assert after is other
    assert ("nnx", f"{PAIRS}.NnxNet") in witness.found


@both
def test_it_nests_with_nnx_capture_either_way(watch):
    net = tiny_pairs.NnxLayer(WEIGHTS["first/kernel"])
    captured = nnx.capture(net, nnx.Intermediate, method_outputs=nnx.Intermediate)
    result, alone = captured(X)
    before = methods()
    with watch() as witness:
        inside = captured(X)[1]
    assert_restored(before)
    assert ("nnx", f"{PAIRS}.NnxLayer") in witness.found
    assert set(alone) == set(inside) == {"__call__", "act"}
    np.testing.assert_array_equal(alone["__call__"].get_value()[0], inside["__call__"].get_value()[0])

    def watched(model, x):
        with watch() as within:
            return model(x), within.found

    (again, found), outside = nnx.capture(watched, nnx.Intermediate, method_outputs=nnx.Intermediate)(net, X)
    assert_restored(before)
    assert ("nnx", f"{PAIRS}.NnxLayer") in found
    assert set(outside) == {"__call__", "act"}
    np.testing.assert_array_equal(again, result)


@both
@pytest.mark.parametrize("outputs", [tiny_pairs.linen_outputs, tiny_pairs.nnx_outputs])
def test_neither_results_nor_the_graph_change(watch, outputs):
    plain = jax.make_jaxpr(lambda w, x: outputs(w, x))(WEIGHTS, X)
    values = outputs(WEIGHTS, X)
    with watch() as witness:
        seen = jax.make_jaxpr(lambda w, x: outputs(w, x))(WEIGHTS, X)
        again = outputs(WEIGHTS, X)
    assert own(witness)
    assert "tanh" in str(plain)
    assert str(seen) == str(plain)
    assert {name: value.tobytes() for name, value in again.items()} == {n: v.tobytes() for n, v in values.items()}


class Narrow(Closing):
    """A class of its own without any method of its own."""


@both
def test_classes_that_share_a_method_are_all_found(watch):
    wide, narrow = Closing(), Narrow()
    with watch() as witness:
        wide(X)
        narrow(X)
    assert own(witness) == {("nnx", f"{HERE}.Closing"), ("nnx", f"{HERE}.Narrow")}


@both
def test_witnesses_nest(watch):
    with watch() as outer:
        with watch() as inner:
            tiny_pairs.linen_outputs(WEIGHTS, X)
        tiny_pairs.nnx_outputs(WEIGHTS, X)
    assert {framework for framework, _ in inner.found} == {"linen"}
    assert {framework for framework, _ in outer.found} >= {"nnx"}
