"""Cross entropy with z-loss: values, stability, gradients, sums."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from impl.math.loss import EPSILON, LossTerms, loss_terms, token_losses
from tests.impl.math import oracles
from tests.impl.math.values import EPS, assert_within, draw, wide

SEGMENTS = np.array([[1, 1, 2, 2, 2, 5, 0], [3, 3, 0, 0, 0, 0, 0]], np.int32)


def inputs(spread=3.0, vocabulary=19):
    targets = np.random.default_rng(2).integers(0, vocabulary, SEGMENTS.shape).astype(np.int32)
    return draw(1, *SEGMENTS.shape, vocabulary, spread=spread), targets


def room(logits, z_loss):
    """Worst errors [B, T] of the two losses.

    An exponential errs by the rounding of its argument and a few spacings, the sum of V of them by V half-spacings;
    log Z, the logit and their difference add one of their sizes each. The square doubles the error of log Z.
    """
    span = logits.max(axis=-1) - logits.min(axis=-1)
    size = np.abs(logits).max(axis=-1) + np.log(logits.shape[-1])
    plain = EPS * (logits.shape[-1] / 2 + span + 3 * size + 4)
    squared = z_loss * (2 * size * plain + 2 * EPS * size**2)
    return plain + squared, squared


@pytest.mark.parametrize("z_loss", [0.013, 0.0])
@pytest.mark.parametrize("spread", [0.2, 3.0, 400.0])
def test_matches_the_oracle(spread, z_loss):
    logits, targets = inputs(spread)
    expected = oracles.token_losses(wide(logits), targets, z_loss)
    rooms = room(wide(logits), z_loss)
    for function in (token_losses, jax.jit(token_losses)):
        xent, z = function(logits, targets, z_loss)
        assert (xent.dtype, z.dtype) == (jnp.float32, jnp.float32)
        assert_within(xent, expected[0], rooms[0])
        if z_loss:
            assert_within(z, expected[1], rooms[1])
        else:
            assert np.array_equal(z, np.zeros(targets.shape))


def test_logits_beyond_the_range_of_exp_stay_finite():
    logits, targets = inputs()
    lifted = (wide(logits) + 3000.0).astype(np.float32)
    expected = oracles.token_losses(wide(lifted), targets, 0.001)
    xent, z = token_losses(lifted, targets, 0.001)
    rooms = room(wide(lifted), 0.001)
    assert_within(xent, expected[0], rooms[0])
    assert_within(z, expected[1], rooms[1])


def test_bfloat16_logits_are_cast_before_anything_else():
    logits, targets = inputs()
    short = jnp.asarray(logits, jnp.bfloat16)
    xent, z = token_losses(short, targets, 0.013)
    assert (xent.dtype, z.dtype) == (jnp.float32, jnp.float32)
    expected = oracles.token_losses(wide(short), targets, 0.013)
    rooms = room(wide(short), 0.013)
    assert_within(xent, expected[0], rooms[0])
    assert_within(z, expected[1], rooms[1])


def test_gradient_matches_central_differences_of_the_oracle():
    logits, targets = inputs(vocabulary=11)
    weights = draw(4, *targets.shape)
    gradient = jax.grad(lambda x: jnp.sum(token_losses(x, targets, 0.05)[0] * weights))(logits)
    step = 1e-5  # float64: truncation and rounding both stay below 1e-9
    expected = np.empty(logits.shape)
    for index in np.ndindex(*logits.shape):
        ends = []
        for sign in (1, -1):
            moved = wide(logits)
            moved[index] += sign * step
            ends.append(np.sum(oracles.token_losses(moved, targets, 0.05)[0] * wide(weights)))
        expected[index] = (ends[0] - ends[1]) / (2 * step)
    # A softmax errs by the bound of log Z; the factor 1 + 2 z log Z in front of it is below 2.
    assert_within(gradient, expected, 2 * room(wide(logits), 0.05)[0][..., None] * np.abs(weights)[..., None] + 1e-8)


def test_the_second_derivative_exists():
    logits, targets = inputs(vocabulary=5)
    losses = jax.jit(lambda x: token_losses(x, targets, 0.05))
    # Central differences in float32 keep about the square root of its precision, and lose some of it twice here.
    check_grads(losses, (logits,), order=2, atol=0.02, rtol=0.02)


def test_terms_are_sums_over_what_is_not_padding():
    logits, targets = inputs()
    terms = loss_terms(logits, targets, SEGMENTS, 0.013)
    assert isinstance(terms, LossTerms)
    assert [(term.shape, term.dtype) for term in terms] == [((), jnp.float32)] * 3
    xent, z = oracles.token_losses(wide(logits), targets, 0.013)
    rooms = room(wide(logits), 0.013)
    kept = SEGMENTS != 0
    # Summing B*T numbers adds as many half-spacings of their sum.
    assert_within(terms.xent_sum, xent[kept].sum(), rooms[0].sum() + EPS * xent.size * xent.sum())
    assert_within(terms.z_sum, z[kept].sum(), rooms[1].sum() + EPS * z.size * z.sum())
    assert float(terms.weights) == 8.0


def test_a_batch_of_padding_has_no_loss():
    logits, targets = inputs()
    terms = loss_terms(logits, targets, np.zeros_like(SEGMENTS), 0.013)
    assert [float(term) for term in terms] == [0.0, 0.0, 0.0]
    assert float(terms.xent_sum / (terms.weights + EPSILON)) == 0.0
    assert EPSILON == 1e-8


def test_nan_in_padding_is_not_hidden():
    logits, targets = inputs()
    logits[0, 6, 3] = np.nan
    assert SEGMENTS[0, 6] == 0
    assert np.isnan(loss_terms(logits, targets, SEGMENTS, 0.013).xent_sum)
