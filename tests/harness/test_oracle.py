"""WITHIN NOISE is for roundings only: a slip of one part in a million is none, and neither is a narrower dtype."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from harness import noise
from harness.allowance import Allowance
from harness.comparison import compare
from harness.drift import drift_compare
from harness.judge import Held, NotHeld
from harness.oracle import with_noise
from harness.pair import Pair, Side
from harness.verdict import Ending, Rung
from harness.verify import judged
from tests.harness.fabricate import generic, observation
from tests.harness.tiny_pairs import case_of

ROWS, WIDTH = 6, 37


def side(name, function):
    def run(case, _run):
        channels = jax.jit(function)(case.weights["w"], case.inputs["x"])
        return {channel: dict(values) for channel, values in channels.items()}

    return Side(name=name, frameworks=frozenset(), programs={"act": run})


def without_golden(*_runs):
    return NotHeld(because="a test needs none")


def verdict_of(left, right, exact=dict, dtype=np.float32, hold=without_golden, allow=()):
    """left, right: (weights [WIDTH], x [ROWS, WIDTH]) -> channel -> name -> value, on values of `dtype`."""
    inputs = {"x": generic((ROWS, WIDTH)).astype(dtype)}
    pair = Pair(
        name="p",
        sides={"linen": side("linen", left), "nnx": side("nnx", right)},
        prepare=lambda settings, seed: ({"w": generic((WIDTH,), seed=3).astype(dtype)}, inputs),
    )
    pair = replace(pair, exact=exact) if exact else pair
    case = replace(case_of(pair, "act"), allow=allow)
    return with_noise(pair, case, *judged(pair, case, hold))


def normed(by):
    """Root mean square norm; `by` says how the root divides."""

    def act(w, x):
        mean = jnp.mean(x * x, axis=-1, keepdims=True)
        return {"outputs": {"y": w * by(x, mean + 1e-6)}}

    return act


def divided(x, mean):
    return x / jnp.sqrt(mean)


def multiplied(x, mean):
    return x * jnp.exp(-0.5 * jnp.log(mean))


def slipped(x, mean):
    return x / jnp.sqrt(mean + 1e-6)


def narrowed(x, mean):
    return divided(x.astype(jnp.float32), mean.astype(jnp.float16) + 0.0).astype(x.dtype)


def single(x, mean):
    return (x.astype(jnp.float32) / jnp.sqrt(mean.astype(jnp.float32))).astype(jnp.float32) * 1.0000001


def test_two_spellings_of_one_function_are_within_noise():
    verdict = verdict_of(normed(divided), normed(multiplied))
    assert (verdict.rung, verdict.first, verdict.moved, verdict.passed) == (Rung.WITHIN_NOISE, None, "nobody", True)
    assert "not BITWISE: outputs/y differs" in verdict.why_not_higher
    (found,) = verdict.noise
    assert found.exact < 1e-6 * found.apart
    assert 0 < found.errors[0] < found.apart * 10
    assert found.floor > 0


def test_a_ruler_that_left_its_golden_is_drifted_whatever_noise_explains():
    def golden(left, right):
        far = observation({"outputs": {"y": left.channels["outputs"]["y"] * 1.5}})
        return Held(left=drift_compare(far, left), right=drift_compare(far, right))

    verdict = verdict_of(normed(divided), normed(multiplied), hold=golden)
    assert (verdict.rung, verdict.ending, verdict.passed) == (Rung.WITHIN_NOISE, Ending.DRIFTED, False)
    assert verdict.moved == "both apart"
    assert "left the golden" in verdict.detail


def test_two_spellings_in_bfloat16_are_within_noise():
    verdict = verdict_of(normed(divided), normed(multiplied), dtype=ml_dtypes.bfloat16)
    assert verdict.rung is Rung.WITHIN_NOISE


def test_an_epsilon_that_float64_still_sees_is_no_rounding():
    verdict = verdict_of(normed(divided), normed(slipped))
    assert verdict.rung is Rung.DIVERGED
    assert "not WITHIN NOISE: outputs/y differs by" in verdict.why_not_higher
    assert "in float64 too" in verdict.why_not_higher
    assert verdict.first is not None


def test_a_slip_that_moves_one_bfloat16_in_thousands_is_no_rounding():
    """The constants are a thousandth apart: less than bfloat16 can hold."""

    def act(by):
        return lambda w, x: {"outputs": {"y": jnp.tile(x, (400, 1)) * jnp.linspace(1, 2, 2400)[:, None] * w * by}}

    def rounded(by):
        return lambda w, x: {"outputs": {"y": act(by)(w, x)["outputs"]["y"].astype(x.dtype)}}

    verdict = verdict_of(rounded(1.5), rounded(1.5003), dtype=ml_dtypes.bfloat16)
    assert verdict.rung is Rung.DIVERGED
    assert "in float64 too" in verdict.why_not_higher


def test_a_narrower_dtype_on_one_side_is_no_rounding():
    verdict = verdict_of(normed(divided), normed(narrowed))
    assert verdict.rung is Rung.DIVERGED
    assert "not WITHIN NOISE" in verdict.why_not_higher


def test_a_dtype_that_is_fixed_in_the_code_is_told():
    verdict = verdict_of(normed(divided), lambda w, x: {"outputs": {"y": normed(single)(w, x)["outputs"]["y"]}})
    assert verdict.rung is Rung.DIVERGED
    fixed = verdict_of(normed(divided), lambda w, x: {"outputs": {"y": (w * single(x, 1.5 * x)).astype("float32")}})
    assert "not WITHIN NOISE" in fixed.why_not_higher


def test_a_gradient_that_is_truly_zero_is_judged_by_what_its_terms_round_to():
    """Softmax does not feel a shift: the gradient of one is a sum of things that cancel, in either order."""

    def act(order):
        def loss(shift, w, x):
            chances = jax.nn.softmax(x * w + shift, axis=-1)
            return jnp.sum(chances[:, 0] * jnp.cos(x[:, 1]))

        def gradients(w, x):
            own, large = jax.grad(loss, argnums=(0, 1))(jnp.ones((), x.dtype), w, x[order])
            return {"gradients": {"shift": own, "w": large}}

        return gradients

    forward, backward = np.arange(ROWS), np.arange(ROWS)[::-1].copy()
    verdict = verdict_of(act(forward), act(backward))
    assert verdict.rung is Rung.WITHIN_NOISE
    assert "gradients/shift" in {f"{each.channel}/{each.name}" for each in verdict.noise}


@pytest.mark.parametrize(
    ("right", "said"),
    [
        (lambda w, x: {"outputs": {"y": w * x * 1.5}}, "where nothing is larger than"),
        (lambda w, x: {"outputs": {"y": jnp.zeros(3)}}, "differs in shape"),
        (lambda w, x: {"outputs": {"y": w * x, "z": w}}, "differs in extra"),
        (lambda w, x: 1 / 0, "differs in error"),
    ],
)
def test_what_is_no_rounding_needs_no_oracle(right, said):
    verdict = verdict_of(lambda w, x: {"outputs": {"y": w * x}}, right)
    assert (verdict.rung, verdict.noise) == (Rung.DIVERGED, ())
    assert "not WITHIN NOISE" in verdict.why_not_higher
    assert said in verdict.why_not_higher


def test_whole_numbers_do_not_round():
    left, right = (observation({"outputs": {"tokens": np.int32([4, 7, found])}}) for found in (1, 2))
    assert noise.measurable(compare(left, right, ())) == "outputs/tokens differs in a whole number"


def test_a_pair_that_cannot_compute_in_float64_stays_exact():
    verdict = verdict_of(normed(divided), normed(multiplied), exact=None)
    assert verdict.rung is Rung.DIVERGED
    assert "does not say how it computes in float64" in verdict.why_not_higher


def test_errors_of_another_size_are_seen_though_the_function_is_one():
    def measured(errors, floor):
        record = {"channel": "c", "name": "n", "apart": 1.0, "exact": 1e-10, "floor_of": "", "room": 4.0}
        return noise.Measured(**record, errors=errors, floor=floor)

    assert measured((3.0, 12.0), 1.0).within
    assert not measured((3.0, 12.1), 1.0).within
    assert not measured((12.1, 3.0), 1.0).within
    assert measured((12.1, 3.0), 4.0).within
    assert measured((0.0, 0.0), 0.0).within
    assert noise.worst([measured((1, 2), 5.0), measured((1, 4), 1.0), measured((3, 3), 1.0)]).errors == (1, 4)


@pytest.mark.parametrize(("dtype", "times"), [("float32", 90), ("bfloat16", 4), ("float16", 11)])
def test_a_narrower_dtype_is_further_than_the_room(dtype, times):
    assert noise.room(np.dtype(dtype)) == pytest.approx(times, rel=0.05)


def test_what_a_scenario_grants_may_stay_in_float64_and_no_more():
    grant = Allowance(pattern="outputs/*", rtol=1e-9, because="one side adds a ten-billionth")

    def right(share):
        return lambda w, x: {"outputs": {"y": normed(multiplied)(w, x)["outputs"]["y"] * (1.0 + share)}}

    assert verdict_of(normed(divided), right(5e-10), allow=(grant,)).rung is Rung.WITHIN_NOISE
    assert verdict_of(normed(divided), right(5e-10)).rung is Rung.DIVERGED
    assert verdict_of(normed(divided), right(5e-9), allow=(grant,)).rung is Rung.DIVERGED


def test_every_element_is_moved_to_a_neighbour_both_ways():
    for dtype in (np.float32, np.float64, ml_dtypes.bfloat16):
        value = generic((5, 11)).astype(dtype)
        there = noise.moved({"w": value, "n": np.arange(3)}, 1)
        up = there["w"].astype(np.float64) > value.astype(np.float64)
        assert there["w"].dtype == value.dtype
        assert (there["w"] != value).all()
        assert 0.2 < up.mean() < 0.8
        np.testing.assert_array_equal(there["n"], np.arange(3))
        steps = np.abs(there["w"].astype(np.float64) - value.astype(np.float64))
        assert (steps <= np.abs(value.astype(np.float64)) * float(ml_dtypes.finfo(dtype).eps)).all()
