"""The tiled loss against float64 formulae and automatic derivatives, and what it keeps for the backward pass."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from impl.math.head import soft_capped, tied_logits
from impl.math.loss import LossTerms, loss_terms
from impl.math.tiling import Tiling, cut, joined, likeliest, tiled_loss_terms
from tests.impl.math import oracles
from tests.impl.math.values import draw, wide

ROWS, LENGTH, WIDTH, WORDS = 3, 12, 7, 23
Z_LOSS = 0.03
FACTORS = (-2.75, 0.625)
"""Neither is 1, nor are they alike: of the cross entropy's sum, and of the z-loss's."""
HEADS = {"plain": (1.0, 0.0), "capped": (WIDTH**-0.5, 1.5)}
"""(scale, soft cap): a plain head, and one that is normalised and capped as gemma2's is."""


def inputs(dtype="float32"):
    """Hidden states, a table, targets, and segments that end in padding in one row and hold some in another."""
    segments = np.ones((ROWS, LENGTH), np.int32)
    segments[0, 7:], segments[1, 4:6], segments[2, 5:] = 0, 0, 3
    targets = np.random.default_rng(3).integers(0, WORDS, segments.shape).astype(np.int32)
    hidden, table = draw(1, ROWS, LENGTH, WIDTH).astype(dtype), draw(2, WORDS, WIDTH).astype(dtype)
    return hidden, table, targets, segments


def head_of(scale, cap):
    def head(table, hidden):
        logits = tied_logits(hidden, table)
        return soft_capped(logits * jnp.asarray(scale, logits.dtype), cap)

    return head


def tiled(name, count, gradients="exact"):
    head, tiling = head_of(*HEADS[name]), Tiling(count, Z_LOSS, gradients)
    return lambda table, hidden, *labels: tiled_loss_terms(head, tiling, table, hidden, *labels)


def at_once(name):
    head = head_of(*HEADS[name])
    return lambda table, hidden, *labels: loss_terms(head(table, hidden), *labels, Z_LOSS)


def slopes(terms, table, hidden, *labels):
    """Derivatives by (table, hidden) of a sum of the terms, each times its factor."""

    def value(table, hidden):
        found = terms(table, hidden, *labels)
        return FACTORS[0] * found.xent_sum + FACTORS[1] * found.z_sum

    return jax.jit(jax.grad(value, (0, 1)))(table, hidden)


def far(found, expected):
    """The largest error, as a part of the largest value."""
    assert found.shape == expected.shape
    return np.max(np.abs(wide(found) - expected)) / np.max(np.abs(expected))


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("count", [1, 3, 12])
def test_values_and_every_gradient_are_those_of_the_formulae_in_float64(name, count):
    hidden, table, targets, segments = inputs("float64")
    formula = (hidden, table, (targets, segments), Z_LOSS, HEADS[name])
    with jax.enable_x64(True):
        found = jax.jit(tiled(name, count))(table, hidden, targets, segments)
        of_table, of_hidden = slopes(tiled(name, count), table, hidden, targets, segments)
    assert isinstance(found, LossTerms)
    assert [float(term) for term in found] == [pytest.approx(term, rel=1e-13) for term in oracles.head_losses(*formula)]
    assert float(found.weights) == 29.0
    expected = oracles.head_gradients(*formula, FACTORS)
    # Sums of some hundred products, each rounded to 2 ** -53.
    assert far(of_table, expected[0]) < 1e-14
    assert far(of_hidden, expected[1]) < 1e-14


def test_the_formula_itself_is_the_slope_of_the_loss():
    hidden, table, targets, segments = inputs("float64")
    rest = ((targets, segments), Z_LOSS, HEADS["capped"])
    of_table, of_hidden = oracles.head_gradients(hidden, table, *rest, FACTORS)

    def value(hidden, table):
        return np.dot(FACTORS, oracles.head_losses(hidden, table, *rest)[:2])

    ways = ((wide(draw(4, *hidden.shape)), 0 * table), (0 * hidden, wide(draw(5, *table.shape))))
    for way_hidden, way_table in ways:
        ends = [value(hidden + side * 1e-5 * way_hidden, table + side * 1e-5 * way_table) for side in (1, -1)]
        along = np.sum(of_hidden * way_hidden) + np.sum(of_table * way_table)
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(along, rel=1e-8)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_automatic_derivatives_of_the_loss_made_at_once_are_the_same(name, dtype):
    hidden, table, *labels = inputs()
    hidden, table = jnp.asarray(hidden, dtype), jnp.asarray(table, dtype)
    expected = slopes(at_once(name), table, hidden, *labels)
    found = slopes(tiled(name, 4), table, hidden, *labels)
    assert [leaf.dtype for leaf in found] == [leaf.dtype for leaf in expected] == [jnp.dtype(dtype)] * 2
    # Each token's logits, loss and slope are the same numbers: only sums over tokens come in another order. In bfloat16
    # a tile's part of them is rounded before it is added, by 2 ** -9 of it; parts may be twice their sum together.
    np.testing.assert_array_equal(wide(found[1]), wide(expected[1]))
    assert far(found[0], wide(expected[0])) <= (3e-7 if dtype == "float32" else 2**-7)


def test_gradients_of_bfloat16_weights_are_summed_in_float32():
    """256 tiles of which one adds 1 and the others 2 ** -9: in bfloat16 each of them would be lost."""
    weight, hidden = jnp.asarray([[1.0]], jnp.bfloat16), np.full((1, 256, 1), 2.0**-9, np.float32)
    hidden[0, 0, 0] = 1.0
    zeros = np.zeros((1, 256), np.int32)

    def head(weight, hidden):
        return jnp.concatenate([0 * hidden, hidden * weight + 40.0], axis=-1)  # the slope of the loss is 1

    terms = Tiling(256, 0.0)
    grad = jax.jit(jax.grad(lambda w: tiled_loss_terms(head, terms, w, hidden, zeros, zeros + 1).xent_sum))(weight)
    assert grad.dtype == jnp.bfloat16
    assert float(grad[0, 0]) == pytest.approx(1.0 + 255 * 2.0**-9, rel=2**-8)


def test_as_in_maxtext_the_hidden_states_lack_the_factor_and_the_head_does_not():
    hidden, table, targets, segments = inputs()
    plain = slopes(tiled("plain", 3), table, hidden, targets, segments)
    theirs = slopes(tiled("plain", 3, "maxtext-0.2.4"), table, hidden, targets, segments)
    formula = (wide(hidden), wide(table), (targets, segments), Z_LOSS, HEADS["plain"])
    ones = oracles.head_gradients(*formula, (1.0, 0.0))
    assert far(theirs[0], FACTORS[0] * ones[0]) < 1e-6
    assert far(theirs[1], ones[1]) < 1e-6
    assert far(plain[1], ones[1]) > 1


def test_no_logits_are_kept_for_the_backward_pass_and_one_tile_at_most_is_made():
    hidden, table, targets, segments = inputs()

    def kept(terms):
        _, back = jax.vjp(lambda *primals: terms(*primals, targets, segments).xent_sum, table, hidden)
        return max(leaf.size for leaf in jax.tree.leaves(back))

    assert kept(at_once("plain")) == ROWS * LENGTH * WORDS
    assert kept(tiled("plain", 4)) == max(hidden.size, table.size)
    text = str(jax.make_jaxpr(lambda *primals: slopes(tiled("plain", 4), *primals, targets, segments))(table, hidden))
    assert f"f32[{ROWS},{LENGTH // 4},{WORDS}]" in text
    assert f"f32[{ROWS},{LENGTH},{WORDS}]" not in text


@pytest.mark.parametrize("rest", [(), (5,)])
def test_a_tile_holds_every_nth_position_of_every_row_and_tiles_join_again(rest):
    values = draw(7, ROWS, LENGTH, *rest)
    parts = np.asarray(cut(jnp.asarray(values), 4))
    assert parts.shape == (4, ROWS, LENGTH // 4, *rest)
    for at, part in enumerate(parts):
        np.testing.assert_array_equal(part, values[:, at::4])
    np.testing.assert_array_equal(joined(jnp.asarray(parts)), values)


@pytest.mark.parametrize("count", [5, 24, 0, -3])
def test_refuses_what_does_not_divide(count):
    with pytest.raises(ValueError, match=rf"rows of 12 positions cannot be cut into {count} equal tiles"):
        cut(jnp.asarray(draw(3, 2, 12)), count)


@pytest.mark.parametrize("head", HEADS)
def test_the_likeliest_tokens_are_those_of_all_logits_and_have_no_gradient(head):
    hidden, table, *_ = inputs()
    scale, cap = HEADS[head]

    def made(weights, rows):
        return soft_capped(tied_logits(rows, weights) * scale, cap)

    found = likeliest(made, table, 4, hidden)
    scores = hidden.astype(np.float64) @ table.astype(np.float64).T
    np.testing.assert_array_equal(found, scores.argmax(axis=-1))  # scale and cap keep the order
    assert len(np.unique(found)) > 5
    text = str(jax.make_jaxpr(lambda *primals: likeliest(made, primals[0], 4, primals[1]))(table, hidden))
    assert f"f32[{ROWS},{LENGTH // 4},{WORDS}]" in text
    assert f"f32[{ROWS},{LENGTH},{WORDS}]" not in text
    slope = jax.grad(lambda weights: jnp.sum(weights) * likeliest(made, weights, 4, hidden).sum())(table)
    np.testing.assert_array_equal(slope, np.full_like(table, found.sum()))
