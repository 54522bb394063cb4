"""Module pairs: sound twins agree bit by bit in every program, and every broken twin is caught."""

from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from examples import mlp
from harness.allowance import Allowance
from harness.attestation import refusal
from harness.binding import bind
from harness.comparison import compare
from harness.modules import NnxModel, Task
from harness.modules.claims import dropout_claims
from harness.modules.draw import draw_weights
from harness.modules.engine import Drop, Masks
from harness.modules.nnx_parts import collection_of
from harness.names import Leaf, NameMap
from harness.observe import observe
from tests.harness.pairs import attention, conv, deep
from tests.harness.pairs.run import case_of, found, results

PROGRAMS = ("structure", "forward", "forward_train", "grad", "train", "state", "taps", "taps_train")
DRAWING = "grad_dropout"


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    "pair",
    [mlp.PAIR, conv.PAIR, attention.PAIR, deep.LISTED, deep.SCANNED],
    ids=lambda pair: pair.name,
)
def test_sound_twins_agree_bit_by_bit(pair, program):
    left, right = results(pair, program)
    assert list(left) == list(right)
    assert all(list(left[channel]) == list(right[channel]) for channel in left)
    assert found(pair, program) == []


def test_every_channel_is_observed():
    channels = {channel for program in PROGRAMS for channel in results(mlp.PAIR, program)[0]}
    assert channels == {"structure", "outputs", "loss", "gradients", "updates", "state", "claims", "intermediates"}


@pytest.mark.parametrize(
    "pair", [deep.LINEN_STACKED, deep.NNX_STACKED, deep.LISTED_CLIPPED], ids=lambda pair: pair.name
)
def test_other_order_of_sums_differs_by_rounding_alone(pair):
    """A loop and its unrolled twin are compiled differently, and a global norm is summed in the order of the leaves."""
    for program in ("structure", "state"):
        assert found(pair, program) == []
    for program in ("forward", "grad", "train"):
        left, right = results(pair, program)
        for channel in left:
            assert list(left[channel]) == list(right[channel])
            for name, value in left[channel].items():
                np.testing.assert_allclose(value, right[channel][name], rtol=2e-4, atol=2e-6, err_msg=name)


def test_steps_is_a_setting():
    left, _ = results(mlp.PAIR, "train", {"steps": 5})
    assert "step 5/total" in left["loss"]
    assert len({float(left["loss"][f"step {step}/total"]) for step in range(1, 6)}) == 5


def test_weights_are_generic_and_independent():
    weights, inputs = mlp.PAIR.prepare({}, 0)
    assert inputs["x"].shape == (3, 11, 7)
    assert not np.array_equal(inputs["x"][0], inputs["x"][1])
    assert all(np.unique(value).size == value.size for value in weights.values())
    assert all(np.any(weights[name] != value) for name, value in mlp.PAIR.prepare({}, 1)[0].items())


def test_a_new_parameter_moves_no_other():
    leaves = {("params", (name, "kernel")): Leaf(shape=(3, 4), dtype="float32") for name in "abc"}
    rows = bind(leaves, leaves, {}, {}).rows
    whole, part = draw_weights(NameMap(rows=rows), 0), draw_weights(NameMap(rows=rows[1:]), 0)
    assert part.keys() < whole.keys()
    assert all(np.array_equal(whole[name], value) for name, value in part.items())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int32", "bool"])
def test_weights_of_other_dtypes(dtype):
    leaves = {("buffers", ("table",)): Leaf(shape=(5, 6), dtype=dtype)}
    (value,) = draw_weights(bind(leaves, leaves, {}, {}), 0).values()
    assert str(value.dtype) == dtype
    assert np.unique(value.astype("float32")).size > 1


def test_the_whole_line_verifies_the_example():
    """Observed, attested and compared as `harness run` does it."""
    pair = mlp.PAIR
    for program in ("grad", "state"):
        case = case_of(pair, program)
        left, right = (observe(pair.sides[run.side], case, run) for run in case.runs)
        assert refusal((pair.sides["linen"], pair.sides["nnx"]), left, right) == ""
        assert "examples.mlp.LinenMLP" in left.attestation.own
        assert "examples.mlp.NnxMLP" in right.attestation.own
        comparison = compare(left, right, ())
        assert comparison.compared > 4
        assert comparison.differences == ()
    assert "impl" not in Path(mlp.__file__).read_text()


def test_the_pair_brings_its_scenarios():
    assert set(mlp.PAIR.scenarios) == {*PROGRAMS, DRAWING} == set(mlp.PAIR.sides["nnx"].programs)
    assert {scenario.pair for scenario in mlp.PAIR.scenarios.values()} == {"mlp"}
    assert mlp.PAIR.table({})["batch_stats/BatchNorm_0/var"]["nnx"] == "batch_stats/norm/var"


def test_collections_of_variable_types():
    class Ema(nnx.Variable):
        pass

    class Special(nnx.BatchStat):
        pass

    kinds = {nnx.Param: "params", nnx.Cache: "cache", Special: "batch_stats", Ema: "ema"}
    assert {kind: collection_of(kind) for kind in kinds} == kinds


def test_dropout_claims_can_fail():
    rng = np.random.default_rng(0)
    before = rng.standard_normal((40, 50)).astype("float32")
    kept = rng.random(before.shape) >= 0.3
    outputs = tuple(rng.standard_normal(3) for _ in range(2))
    sound = Drop(rate=0.3, before=before, after=np.where(kept, before / np.float32(0.7), 0))
    for drop, false in (
        (sound, 0),
        (replace(sound, rate=0.4), 2),
        (replace(sound, after=np.where(kept, before, 0)), 1),
    ):
        claims = dropout_claims(Masks(train=outputs, evaluate=outputs[:1] * 2, drops=(drop,)))
        assert sum(not value for value in claims.values()) == false


def test_one_step_is_refused_and_allowances_reach_the_scenario():
    with pytest.raises(ValueError, match="at least 2"):
        Task(inputs=mlp.inputs, loss=mlp.loss, optimizer=lambda: None, steps=1)
    allowance = Allowance(pattern="gradients/*", rtol=1e-6, because="the loop is unrolled on one side")
    task = replace(deep.TASK, allow={"grad": (allowance,)})
    scenarios = deep.pair("listed", deep.LinenDeep, deep.NnxDeep, task).scenarios
    assert scenarios["grad"].allow == (allowance,)
    assert scenarios["train"].allow == ()


def test_modes_may_be_the_users_own():
    """A module whose mode is an attribute of its own: the two callables of NnxModel set it."""

    class Scaled(nnx.Module):
        def __init__(self, rngs):
            self.linear, self.factor = nnx.Linear(7, 12, rngs=rngs), 1.0

        def __call__(self, x):
            return self.linear(x) * self.factor

    model = NnxModel(
        create=Scaled,
        call=lambda m, b: m(b["x"]),
        train=lambda m: setattr(m, "factor", 3.0),
        evaluate=lambda m: setattr(m, "factor", 2.0),
    )
    module = Scaled(nnx.Rngs(0))
    batch = {"x": jnp.full((2, 7), 0.3)}
    plain = np.asarray(model.call(module, batch))
    for mode, factor in ((model.train, 3.0), (model.evaluate, 2.0)):
        mode(module)
        np.testing.assert_allclose(model.call(module, batch), plain * factor, rtol=1e-6)
