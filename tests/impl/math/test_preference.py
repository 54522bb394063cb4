"""Direct preference optimisation: which tokens count, log-probabilities, losses; values, slopes, bits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from impl.math.preference import (
    Pairs,
    completion_logps,
    completion_masks,
    preference_losses,
    rewards,
    shared_masks,
)
from tests.impl.math import preference_oracle as oracle
from tests.impl.math.values import EPS, assert_within, draw, wide

MARGINS = np.array([-21.0, -3.7, -0.4, -1e-3, 2e-5, 0.3, 2.9, 14.0], np.float32)

# Prefixes of 3, 0, 1 and 5 tokens; rows that agree again after they parted; one half that is the other's beginning;
# two equal halves; and one pair without a token.
CHOSEN = np.array([[5, 6, 7, 8, 9, 3], [4, 9, 2, 8, 0, 0], [7, 2, 3, 0, 0, 0], [1, 2, 3, 4, 5, 0], [6, 8, 6, 0, 0, 0]])
REJECTED = np.array(
    [[5, 6, 7, 2, 9, 0], [3, 9, 2, 1, 1, 6], [7, 4, 3, 9, 1, 0], [1, 2, 3, 4, 5, 6], [6, 8, 6, 0, 0, 0]]
)
TOKENS = Pairs(CHOSEN.astype(np.int32), REJECTED.astype(np.int32))
SEGMENTS = Pairs(*[(half != 0).astype(np.int32) for half in TOKENS])


def test_what_counts_is_each_rows_own_completion():
    expected = oracle.masks(TOKENS, SEGMENTS)
    for function in (completion_masks, jax.jit(completion_masks)):
        found = function(TOKENS, SEGMENTS)
        for half in (0, 1):
            np.testing.assert_array_equal(found[half], expected[half])
    assert [row.sum() for row in expected[0]] == [3, 3, 2, 0, 0]
    assert [row.sum() for row in expected[1]] == [2, 5, 4, 1, 0]


def test_a_token_called_0_is_no_padding():
    tokens = Pairs(np.array([[4, 0, 0, 7]], np.int32), np.array([[4, 0, 0, 0]], np.int32))
    found = completion_masks(tokens, Pairs(np.array([[1, 1, 1, 1]]), np.array([[1, 1, 0, 0]])))
    assert np.asarray(found.chosen).tolist() == [[False, True, True]]
    assert not np.any(found.rejected)


def test_the_shared_mask_cuts_the_longer_to_the_shorter():
    first, second = shared_masks(completion_masks(TOKENS, SEGMENTS))
    np.testing.assert_array_equal(first, second)
    own = oracle.masks(TOKENS, SEGMENTS)
    np.testing.assert_array_equal(first, own[0] & own[1])
    assert [int(row.sum()) for row in first] == [2, 3, 2, 0, 0]


def drawn(spread=3.0):
    mask = oracle.masks(TOKENS, SEGMENTS)[1]
    return draw(5, *TOKENS.rejected.shape, 11, spread=spread), TOKENS.rejected, mask


def room(logits, mask):
    """Worst error [B]: each token's as that of a cross entropy (tests.impl.math.test_loss), and one for each sum."""
    span = logits.max() - logits.min()
    size = np.abs(logits).max() + np.log(logits.shape[-1])
    return EPS * mask.sum(axis=1) * (logits.shape[-1] / 2 + span + 3 * size + 4 + size * mask.shape[1]) + 1e-30


@pytest.mark.parametrize("spread", [0.2, 3.0, 200.0])
def test_log_probabilities_match_the_oracle(spread):
    logits, tokens, mask = drawn(spread)
    for function in (completion_logps, jax.jit(completion_logps)):
        found = function(logits, tokens, mask)
        assert (found.shape, found.dtype) == ((5,), jnp.float32)
        assert_within(found, oracle.logps(wide(logits), tokens, mask), room(wide(logits), mask))
    assert float(found[4]) == 0.0
    assert np.all(np.asarray(found[:4]) < 0)


def test_bfloat16_logits_are_cast_before_anything_else():
    logits, tokens, mask = drawn()
    short = jnp.asarray(logits, jnp.bfloat16)
    found = completion_logps(short, tokens, mask)
    assert_within(found, oracle.logps(wide(short), tokens, mask), room(wide(short), mask))


def test_the_last_position_and_masked_tokens_do_not_matter_but_nan_in_padding_is_not_hidden():
    logits, tokens, mask = drawn()
    found = np.asarray(completion_logps(logits, tokens, mask))
    moved = logits.copy()
    moved[:, -1] += 7.0
    moved[0, 0] *= 3.0
    np.testing.assert_array_equal(completion_logps(moved, tokens, mask), found)
    moved[4, 4, 2] = np.nan
    assert np.isnan(completion_logps(moved, tokens, mask)[4])


@pytest.mark.parametrize("smoothing", [0.0, 0.15, 0.4])
def test_losses_and_slopes_match_the_oracle(smoothing):
    expected = [oracle.loss(float(margin), smoothing) for margin in MARGINS]
    losses = preference_losses(MARGINS, smoothing)
    assert losses.dtype == jnp.float32
    # An exponential, a logarithm, a product and a sum: a few roundings of the margin and of the loss.
    assert_within(losses, np.array(expected), EPS * (4 + 2 * np.abs(wide(MARGINS))))
    slopes = jax.vmap(jax.grad(lambda margin: preference_losses(margin, smoothing)))(MARGINS)
    assert_within(slopes, np.array([oracle.slope(float(m), smoothing) for m in MARGINS]), 8 * EPS)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.15, 0.3])
def test_no_margin_costs_ln_2_to_the_bit(smoothing):
    losses = np.asarray(jax.jit(preference_losses)(np.zeros(7, np.float32), smoothing))
    assert [hex(bits) for bits in losses.view(np.uint32)] == ["0x3f317218"] * 7
    assert float(losses[0]) == float(np.float32(np.log(2.0)))


def test_margins_beyond_the_range_of_exp_stay_finite():
    losses = preference_losses(np.array([-4e4, 4e4], np.float32), 0.25)
    assert np.asarray(losses).tolist() == [3e4, 1e4]


def test_a_reward_is_beta_times_what_the_policy_gained():
    policy, reference = draw(1, 4), draw(2, 4)
    assert_within(rewards(policy, reference, 0.3), 0.3 * (wide(policy) - wide(reference)), 4 * EPS * 3)
