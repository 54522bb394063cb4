"""Choosing tokens. Frequencies are checked on fixed keys, so each run sees the same draws."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from impl.math.sampling import greedy, sample, token_log_probs
from tests.impl.math import oracles
from tests.impl.math.values import EPS, assert_within, draw, wide

DRAWS = 20_000
ROW = np.array([0.3, 2.1, -0.7, 1.4, 1.9, -2.2, 0.9], np.float32)


def test_greedy_takes_the_largest_and_the_first_among_equals():
    logits = draw(1, 5, 13)
    chosen = greedy(logits)
    assert chosen.dtype == jnp.int32
    assert chosen.tolist() == [max(range(13), key=lambda token: row[token]) for row in logits]
    assert greedy(jnp.array([[1.5, 4.0, -2.0, 4.0]])).tolist() == [1]


@pytest.mark.parametrize("top_k", [0, 1, 3, 7])
@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_frequencies_are_those_of_the_softmax(temperature, top_k):
    rows = np.tile(ROW, (DRAWS, 1))
    tokens = sample(jax.random.key(29), rows, temperature=temperature, top_k=top_k)
    assert (tokens.dtype, tokens.shape) == (jnp.int32, (DRAWS,))
    order = sorted(range(7), key=lambda token: -ROW[token])
    kept = set(order[:top_k] if top_k else order)
    odds = np.array([np.exp(wide(ROW)[token] / temperature) if token in kept else 0.0 for token in range(7)])
    odds /= odds.sum()
    counts = np.bincount(np.asarray(tokens), minlength=7)
    assert set(np.flatnonzero(counts)) <= kept
    # Five standard deviations of a binomial count: another stream of noise would miss it once in a million.
    assert np.all(np.abs(counts - DRAWS * odds) <= 5 * np.sqrt(DRAWS * odds * (1 - odds)))


def test_rows_are_drawn_independently_and_a_key_fixes_them():
    rows = np.tile(ROW, (DRAWS, 1))
    once, again = (sample(jax.random.key(3), rows, temperature=1.0, top_k=0) for _ in range(2))
    other = sample(jax.random.key(4), rows, temperature=1.0, top_k=0)
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)
    assert np.mean(np.asarray(once)[1:] == np.asarray(once)[:-1]) < 0.5


def test_admitting_all_by_number_is_admitting_all():
    logits = draw(2, 50, 13)
    key = jax.random.key(8)
    all_of_them = sample(key, logits, temperature=0.8, top_k=0)
    assert np.array_equal(all_of_them, sample(key, logits, temperature=0.8, top_k=13))
    assert not np.array_equal(all_of_them, greedy(logits))


def test_equal_logits_do_not_widen_the_choice():
    rows = np.tile(np.array([0.5, 3.25, 3.25, 3.25], np.float32), (400, 1))
    tokens = sample(jax.random.key(5), rows, temperature=1.0, top_k=2)
    assert set(tokens.tolist()) == {1, 2}


def test_bfloat16_logits_sample_like_their_float32_values():
    short = jnp.asarray(draw(6, 300, 13), jnp.bfloat16)
    key = jax.random.key(12)
    left, right = (sample(key, x, temperature=0.9, top_k=5) for x in (short, short.astype(jnp.float32)))
    assert np.array_equal(left, right)


def test_log_probs_match_the_oracle():
    logits, tokens = draw(7, 5, 13, spread=6.0), np.array([3, 0, 12, 7, 7], np.int32)
    expected = wide(logits)[np.arange(5), tokens] - oracles.log_partition(wide(logits))
    # The sum of V exponentials errs by V half-spacings, each argument by its size, the differences by theirs.
    room = EPS * (13 / 2 + 5 * np.abs(logits).max() + 4)
    for given in (logits, jnp.asarray(logits)):
        result = token_log_probs(given, tokens)
        assert result.dtype == jnp.float32
        assert_within(result, expected, room)
    assert token_log_probs(jnp.asarray(logits, jnp.bfloat16), tokens).dtype == jnp.float32


@pytest.mark.parametrize("temperature", [0.0, -1.5])
def test_refuses_a_temperature_that_is_not_positive(temperature):
    with pytest.raises(ValueError, match=rf"temperature={temperature} must be positive: .* use greedy"):
        sample(jax.random.key(0), ROW[None], temperature=temperature, top_k=0)


@pytest.mark.parametrize("top_k", [8, -1])
def test_refuses_a_top_k_outside_the_vocabulary(top_k):
    with pytest.raises(ValueError, match=rf"top_k={top_k} must lie between 0 \(all\) and the vocabulary size 7"):
        sample(jax.random.key(0), ROW[None], temperature=1.0, top_k=top_k)
