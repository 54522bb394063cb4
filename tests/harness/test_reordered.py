"""A batch in another order is one of the ways a side is held against itself, where order means nothing."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from harness import floors, noise
from harness.comparison import compare
from harness.observe import observe
from harness.pair import Pair, Side
from harness.registry import load_pair
from impl.tiny import family
from tests.harness.fabricate import generic
from tests.harness.tiny_pairs import case_of

ROWS, WIDTH = 24, 7


def act(order, weigh):
    """The loss of `x` summed row after row in `order`; `weigh`: position in the batch -> weight."""

    def run(case, _run):
        x = jnp.asarray(case.inputs["x"]) * weigh(len(case.inputs["x"]))[:, None]
        terms = jnp.sum(jnp.exp(x * case.weights["w"]), axis=1)[order]
        total = jax.lax.scan(lambda sum, term: (sum + term, None), jnp.zeros((), x.dtype), terms)[0]
        return {"loss": {"total": total}}

    return run


def seen_again(reordered_by, weigh=lambda rows: np.ones(rows, np.float32)):
    """What the two sides made, and the first one's runs with the batch in the order of `reordered_by`."""
    forward = np.arange(ROWS)
    programs = (act(forward, weigh), act(np.roll(forward, 8), weigh))
    inputs = {"x": generic((ROWS, WIDTH)).astype(np.float32)}
    pair = Pair(
        name="p",
        sides={
            name: Side(name=name, frameworks=frozenset(), programs={"act": program})
            for name, program in zip(("linen", "nnx"), programs, strict=True)
        },
        prepare=lambda settings, seed: ({"w": generic((WIDTH,), seed=3).astype(np.float32)}, inputs),
        reordered=reordered_by,
    )
    case = case_of(pair, "act")
    runs = tuple(observe(pair.sides[run.side], case, run) for run in case.runs)
    found = noise.measurable(compare(*runs, ()))
    return runs, floors.reordered(pair, case, case.runs[0], runs[0], found)


def backwards(settings, inputs):
    return {"x": inputs["x"][::-1]}


def test_a_sum_in_another_order_is_part_of_the_noise():
    (forward, _), (found,) = seen_again(backwards)
    apart = noise.gap(forward, found, "loss", "total")
    assert 0.0 < apart < 1e-3 * abs(float(forward.channels["loss"]["total"]))


def test_an_order_that_has_a_meaning_is_left_out():
    """Each row weighs by its place: backwards it is another loss, which says nothing of noise."""

    def weigh(rows):
        return np.linspace(0.1, 1.7, rows, dtype=np.float32)

    assert seen_again(backwards, weigh)[1] == []


def test_a_pair_that_does_not_say_how_is_left_as_it_is():
    assert seen_again(lambda settings, inputs: {})[1] == []


@pytest.mark.parametrize("side", ["linen", "nnx"])
def test_the_decoder_sums_the_same_in_another_order(side):
    pair = load_pair("impl")
    case = case_of(pair, "gradients", settings={"config": family("llama2")})
    program = pair.sides[side].programs["gradients"]
    other = replace(case, inputs={**case.inputs, **pair.reordered(case.settings, case.inputs)})
    first, second = program(case, case.runs[0]), program(other, case.runs[0])
    assert not np.array_equal(case.inputs["step0/tokens"], other.inputs["step0/tokens"])
    # because: 48 terms in another order, in float32; a sum over other rows would be off by a share of its terms.
    for name, value in first["gradients"].items():
        np.testing.assert_allclose(second["gradients"][name], value, rtol=0, atol=1e-4 * np.abs(value).max())


def test_rows_that_draw_masks_are_not_reordered():
    pair = load_pair("impl")
    assert pair.reordered({"config": family("llama2", dropout_rate=0.3)}, {"step0/tokens": np.zeros((2, 3))}) == {}
