"""QK-Clip: the largest logits, the factors, the kernels, and that together they bring a head down to the threshold."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from impl.math.attention import MASKED, dot_products
from impl.math.clip import clipped_query, clipped_up, head_scales, largest_logits
from impl.math.masks import training_mask, without_padding
from impl.math.mla import expanded, placed
from impl.math.rope import Frequencies
from tests.impl.math import clip_oracle
from tests.impl.math.values import BF16_ROUNDING, EPS, assert_within, draw, wide

SEGMENTS = np.array([[1, 1, 1, 2, 2, 0, 0], [3, 3, 3, 3, 3, 3, 3], [0] * 7], np.int32)
LARGEST = np.array([3.7, 11.0, 5.0, -2.5], np.float32)


def test_the_largest_logit_of_each_row_and_head_is_of_what_tokens_attend_to():
    query, key = draw(1, 3, 7, 6, 5, spread=2.0), draw(2, 3, 7, 2, 5)
    mask = without_padding(training_mask(SEGMENTS), SEGMENTS)
    expected = np.full((3, 6), -np.inf)
    for b, t, s, head in np.ndindex(3, 7, 7, 6):
        if s <= t and SEGMENTS[b, t] == SEGMENTS[b, s] != 0:
            expected[b, head] = max(expected[b, head], wide(query)[b, t, head] @ wide(key)[b, s, head // 3])
    found = jax.jit(largest_logits)(query, key, mask)
    assert (found.shape, found.dtype) == ((3, 6), jnp.float32)
    assert np.all(np.asarray(found[2]) == np.float32(MASKED))
    assert_within(found[:2], expected[:2], 5 * EPS * 5 * np.abs(query).max() * np.abs(key).max())
    assert largest_logits(query.astype(jnp.bfloat16), key.astype(jnp.bfloat16), mask).dtype == jnp.float32


def test_padding_counts_for_nothing_and_is_in_the_mask_of_attention():
    mask = np.asarray(training_mask(SEGMENTS))
    without = np.asarray(without_padding(mask, SEGMENTS))
    assert mask[0, 6, 5]
    assert not without[0, 5:].any()
    assert not without[2].any()
    np.testing.assert_array_equal(without[SEGMENTS != 0], mask[SEGMENTS != 0])


def test_no_gradient_goes_through_what_is_measured():
    query, key, mask = draw(1, 1, 7, 2, 5), draw(2, 1, 7, 2, 5), training_mask(SEGMENTS[:1])
    found = jax.grad(lambda q: jnp.sum(largest_logits(q, key, mask)))(query)
    assert not np.any(found)


def test_a_factor_is_exactly_1_up_to_the_threshold_whatever_the_sign():
    found = np.asarray(head_scales(jnp.asarray([-7.0, MASKED, 0.0, 4.0, 5.0, 5.0000005, 10.0, 80.0]), 5.0))
    assert found[:5].tolist() == [1.0] * 5
    assert 0.9999998 < found[5] < 1.0
    assert found[6:].tolist() == [0.5, 0.0625]
    # because: one float32 quotient, and the threshold rounded to float32 before it.
    np.testing.assert_allclose(head_scales(LARGEST, 4.3), [clip_oracle.factor(x, 4.3) for x in LARGEST], rtol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("rule", "oracle"),
    [(clipped_query, clip_oracle.queries), (clipped_up, clip_oracle.keys_and_values)],
    ids=["query", "up"],
)
def test_a_clipped_kernel_is_the_oracles_and_heads_below_keep_their_bits(rule, oracle, dtype):
    kernel = jnp.asarray(draw(3, 9, 4, 12), dtype)
    found = jax.jit(rule, static_argnums=2)(kernel, head_scales(LARGEST, 4.3), 5)
    assert (found.shape, found.dtype) == (kernel.shape, kernel.dtype)
    expected = oracle(wide(kernel), LARGEST, 4.3, 5)
    rounding = {"float32": 2 * EPS, "bfloat16": BF16_ROUNDING}[dtype]
    assert_within(found, expected, rounding * np.abs(wide(kernel)) + 1e-30)
    np.testing.assert_array_equal(found[:, [0, 3]], kernel[:, [0, 3]])
    assert np.abs(expected - wide(kernel))[:, 1:3].max() > 0.1


def test_stacked_kernels_take_a_factor_for_each_layer_and_head():
    largest = draw(5, 3, 4, spread=3.0) + 4.0
    kernel = draw(6, 3, 9, 4, 12)
    scales = head_scales(largest, 4.3)
    first, second = clipped_query(kernel, scales[:, None], 5), clipped_query(kernel.swapaxes(0, 1), scales, 5)
    np.testing.assert_array_equal(first, second.swapaxes(0, 1))
    for layer in range(3):
        expected = clip_oracle.queries(kernel[layer], largest[layer], 4.3, 5)
        assert_within(first[layer], expected, 2 * EPS * np.abs(kernel[layer]) + 1e-30)


def test_clipped_kernels_bring_exactly_the_heads_beyond_down_to_the_threshold():
    turning = Frequencies("yarn", 6, factor=40.0, original_length=64)
    positions = np.arange(7)[None] + np.array([[0], [90]])
    mask = training_mask(np.ones((2, 7), np.int32))
    with jax.enable_x64(True):
        compact, latent, shared = (jnp.asarray(wide(draw(at, *shape))) for at, shape in _SHAPES.items())
        query, up = jnp.asarray(wide(draw(14, 8, 4, 11))), jnp.asarray(wide(draw(15, 9, 4, 12)))

        def logits(query, up):
            key, _ = expanded(jnp.einsum("btc,chd->bthd", latent, up), shared, 5)
            return placed(jnp.einsum("btc,chd->bthd", compact, query), positions, turning), key

        largest = jnp.max(largest_logits(*logits(query, up), mask), axis=0)
        threshold = float(jnp.sort(largest)[2]) - 1.0
        scales = head_scales(largest, threshold)
        clipped = logits(clipped_query(query, scales, 5), clipped_up(up, scales, 5))
        before, after = np.asarray(dot_products(*logits(query, up))), np.asarray(dot_products(*clipped))
        found = np.asarray(jnp.max(largest_logits(*clipped, mask), axis=0))
    assert sum(np.asarray(largest) > threshold) == 2
    # because: float64 throughout, sums of 8 to 12 products; what cancels in a logit needs the absolute part.
    np.testing.assert_allclose(found, np.minimum(largest, threshold), rtol=1e-12)
    np.testing.assert_allclose(after, before * np.asarray(scales)[None, :, None, None, None], rtol=1e-9, atol=1e-10)


_SHAPES = {11: (2, 7, 8), 12: (2, 7, 9), 13: (2, 7, 1, 6)}
"""Seed -> shape: the queries' latents, the latents, the keys' shared part."""
