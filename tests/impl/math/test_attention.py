"""Grouped-query attention against its oracle: values, gradients, dtypes, rows that see nothing."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from impl.math.attention import MASKED, attend
from tests.impl.math import oracles
from tests.impl.math.values import BF16_ROUNDING, EPS, assert_within, draw, wide

SEGMENTS = np.array([[1, 1, 1, 2, 2, 2, 0], [3, 5, 5, 5, 5, 0, 0]], np.int32)


def inputs(batch=2, length=7, slots=7, heads=6, keys=3, size=10):
    shapes = ((length, heads), (slots, keys), (slots, keys))
    return [draw(seed, batch, *shape, size, spread=0.8) for seed, shape in enumerate(shapes, 11)]


def bound(query, key, value):
    """Worst error of an output entry.

    A dot product of D terms errs by D half-spacings of its terms' absolute sum, which a soft cap can only shrink; a
    weight errs relatively by twice that (its own logit and the sum), by S + 8 half-spacings of the exponentials and
    their sum; the mean of the values adds S more. Everything times the largest value.
    """
    slots, size = key.shape[1], query.shape[-1]
    terms = size * np.abs(query).max() * np.abs(key).max()
    return EPS / 2 * (2 * size * terms + 2 * slots + 8) * np.abs(value).max()


@pytest.mark.parametrize("window", [-1, 2])
@pytest.mark.parametrize("soft_cap", [0.0, 1.7])
@pytest.mark.parametrize("keys", [1, 2, 3, 6])
def test_matches_the_oracle_on_packed_rows(keys, soft_cap, window):
    query, key, value = inputs(keys=keys)
    mask = oracles.training_mask(SEGMENTS, window)
    expected = oracles.attend(wide(query), wide(key), wide(value), mask, soft_cap)
    for function in (attend, jax.jit(attend, static_argnames="soft_cap")):
        result = function(query, key, value, mask, soft_cap=soft_cap)
        assert result.dtype == jnp.float32
        assert_within(result, expected, bound(query, key, value))


def test_key_length_may_differ_from_query_length():
    query, key, value = inputs(length=3, slots=8)
    mask = np.random.default_rng(5).random((2, 3, 8)) < 0.6
    expected = oracles.attend(wide(query), wide(key), wide(value), mask)
    assert_within(attend(query, key, value, mask), expected, bound(query, key, value))


def test_a_row_that_sees_nothing_is_the_mean_of_all_values():
    query, key, value = inputs()
    mask = oracles.training_mask(SEGMENTS, -1)
    mask[1, 4] = False
    result = attend(query, key, value, mask)
    means = np.repeat(wide(value)[1].mean(axis=0), 2, axis=0)  # K heads, each read by two
    assert_within(result[1, 4], means, bound(query, key, value))
    assert_within(result, oracles.attend(wide(query), wide(key), wide(value), mask), bound(query, key, value))
    assert np.isfinite(MASKED)
    assert -0.7 * np.finfo(np.float32).max == MASKED


@pytest.mark.parametrize("soft_cap", [0.0, 1.7])
def test_gradients_match_central_differences_of_the_oracle(soft_cap):
    arrays = inputs()
    mask = oracles.training_mask(SEGMENTS, -1)
    mask[0, 5] = False  # a uniform row must not put NaN into anything
    cotangent = draw(31, *arrays[0].shape)

    def total(*arguments):
        return jnp.sum(attend(*arguments, mask, soft_cap=soft_cap) * cotangent)

    def exact(*arguments):
        return np.sum(oracles.attend(*arguments, mask, soft_cap) * wide(cotangent))

    gradients = jax.grad(total, argnums=(0, 1, 2))(*arrays)
    step = 1e-5  # float64: truncation and rounding both stay below 1e-9
    for which, gradient in enumerate(gradients):
        for seed in range(3):
            direction = wide(draw(40 + 10 * which + seed, *arrays[which].shape))
            ends = []
            for sign in (1, -1):
                moved = [wide(array) for array in arrays]
                moved[which] = moved[which] + sign * step * direction
                ends.append(exact(*moved))
            slope = np.sum(wide(gradient) * direction)
            # A derivative chains the roundings of two passes; the sum over its entries adds theirs up at most.
            room = 4 * EPS * arrays[0].shape[-1] * np.sum(np.abs(wide(gradient) * direction)) + 1e-9
            assert_within(slope, (ends[0] - ends[1]) / (2 * step), room)
    # Query rows without a key, and keys nobody sees, get exactly nothing.
    assert np.all(np.asarray(gradients[0])[0, 5] == 0)


def test_padding_and_other_segments_change_nothing_bit_for_bit():
    query, key, value = inputs()
    mask = oracles.training_mask(SEGMENTS, -1)
    plain = np.asarray(attend(query, key, value, mask))
    key[0, 3:], value[0, 3:] = draw(71, 4, 3, 10, spread=9.0), draw(72, 4, 3, 10, spread=9.0)
    changed = np.asarray(attend(query, key, value, mask))
    assert np.array_equal(plain[0, :3], changed[0, :3])
    assert np.array_equal(plain[1], changed[1])
    assert not np.array_equal(plain[0, 3:], changed[0, 3:])


def test_bfloat16_logits_are_rounded_before_the_softmax():
    # The dot products are 257 and 256, and 257 is no bfloat16: both become 256, so the weights are equal.
    query = jnp.array([16.0, 1.0], jnp.bfloat16).reshape(1, 1, 1, 2)
    key = jnp.array([[16.0, 1.0], [16.0, 0.0]], jnp.bfloat16).reshape(1, 2, 1, 2)
    value = jnp.array([[3.0, -7.0], [5.0, 2.0]], jnp.bfloat16).reshape(1, 2, 1, 2)
    result = attend(query, key, value, jnp.ones((1, 1, 2), bool))
    assert result.dtype == jnp.bfloat16
    assert wide(result).ravel().tolist() == [4.0, -2.5]


def test_bfloat16_logits_are_capped_and_normalised_in_float32():
    # Whole dot products below 256, so no rounding before the cap; in bfloat16 the capped ones would err by 0.1.
    query = jnp.array([8.0, -3.0], jnp.bfloat16).reshape(1, 1, 1, 2)
    key = jnp.array([[5.0, 1.0], [7.0, 5.0], [4.0, -3.0], [6.0, 2.0]], jnp.bfloat16).reshape(1, 4, 1, 2)
    value = jnp.asarray(draw(6, 1, 4, 1, 2), jnp.bfloat16)
    mask = np.ones((1, 1, 4), bool)
    expected = oracles.attend(wide(query), wide(key), wide(value), mask, 50.0)
    # Each weight is rounded, so is the mean, and 1% for everything in float32.
    room = 2.01 * BF16_ROUNDING * np.abs(wide(value)).max()
    assert_within(attend(query, key, value, mask, soft_cap=50.0), expected, room)


def test_weights_take_the_dtype_of_the_values():
    # A third rounds up to 0.333984375, which lifts the mean over the midpoint between two neighbours of bfloat16.
    query, key = draw(3, 1, 1, 1, 2), np.tile(draw(4, 1, 1, 1, 2), (1, 3, 1, 1))
    value = np.array([1.984375, 1.984375, 1.9921875], ml_dtypes.bfloat16)
    value = np.stack([value, -value], axis=-1).reshape(1, 3, 1, 2)
    mask = np.ones((1, 1, 3), bool)
    result = attend(query, key, jnp.asarray(value), mask)
    assert result.dtype == jnp.float32
    assert wide(result).ravel().tolist() == [1.9921875, -1.9921875]
    mean = wide(value).mean(axis=1).ravel()
    assert_within(attend(query, key, value.astype(np.float32), mask).ravel(), mean, 8 * EPS)


@pytest.mark.parametrize("query_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("value_dtype", ["float32", "bfloat16"])
def test_result_has_the_dtype_of_the_query(query_dtype, value_dtype):
    query, key, value = inputs()
    result = attend(
        jnp.asarray(query, query_dtype),
        jnp.asarray(key, query_dtype),
        jnp.asarray(value, value_dtype),
        oracles.training_mask(SEGMENTS, -1),
    )
    assert result.dtype == jnp.dtype(query_dtype)


def test_refuses_heads_that_do_not_divide():
    query, key, value = inputs(heads=7)
    with pytest.raises(ValueError, match=r"7 query heads cannot share 3 key heads evenly"):
        attend(query, key, value, oracles.training_mask(SEGMENTS, -1))


def test_refuses_a_negative_soft_cap():
    query, key, value = inputs()
    with pytest.raises(ValueError, match=r"soft cap -2\.5 is negative"):
        attend(query, key, value, oracles.training_mask(SEGMENTS, -1), soft_cap=-2.5)


def test_a_sink_takes_its_part_of_the_weight_and_gives_no_value():
    query, key, value = inputs()
    mask, sinks = oracles.training_mask(SEGMENTS, 3), draw(51, 6)
    expected = np.zeros(query.shape)
    for b, t, h in np.ndindex(query.shape[:3]):
        odds = np.exp(wide(key)[b, :, h // 2] @ wide(query)[b, t, h]) * mask[b, t]
        expected[b, t, h] = odds @ wide(value)[b, :, h // 2] / (odds.sum() + np.exp(float(sinks[h])))
    result = attend(query, key, value, mask, sinks=(sinks,))
    assert_within(result, expected, bound(query, key, value))
    whole = attend(query, key, value, mask)
    assert np.all(np.abs(result) < np.abs(whole))
    assert np.any(jax.grad(lambda sinks: jnp.sum(attend(query, key, value, mask, sinks=(sinks,)) ** 2))(sinks))
    mask[1, 4] = False
    assert not np.any(attend(query, key, value, mask, sinks=(sinks,))[1, 4])
