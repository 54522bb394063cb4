"""Norm scale, tied logits, soft cap."""

from __future__ import annotations

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from impl.math.head import soft_capped, tied_logits
from impl.math.norm import apply_scale
from tests.impl.math import oracles
from tests.impl.math.values import EPS, assert_within, draw, wide


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_scale_is_cast_before_the_offset_is_added(offset, dtype):
    x, scale = draw(1, 2, 7, 13), draw(2, 13, spread=0.03)
    result = apply_scale(jnp.asarray(x), jnp.asarray(scale), offset=offset, dtype=dtype)
    # NumPy rounds each operation in `dtype` just so: the bits must agree.
    expected = x.astype(dtype) * (scale.astype(dtype) + dtype(offset))
    assert result.dtype == jnp.dtype(dtype)
    assert np.array_equal(np.asarray(result).view(np.uint8), expected.view(np.uint8))


def test_rounding_the_sum_late_would_show():
    x, scale = draw(1, 2, 7, 13), draw(2, 13, spread=0.03)
    late = x.astype(ml_dtypes.bfloat16) * (scale + np.float32(1)).astype(ml_dtypes.bfloat16)
    result = apply_scale(jnp.asarray(x), jnp.asarray(scale), offset=1.0, dtype=jnp.bfloat16)
    assert not np.array_equal(np.asarray(result), late)


def head_inputs():
    return draw(5, 2, 7, 10), draw(6, 23, 10)


def test_tied_logits_match_the_oracle():
    hidden, table = head_inputs()
    expected = oracles.tied_logits(wide(hidden), wide(table))
    # A dot product of E terms: E half-spacings of the absolute sum.
    room = EPS * 10 * oracles.tied_logits(np.abs(wide(hidden)), np.abs(wide(table)))
    assert_within(tied_logits(hidden, table), expected, room)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_have_the_dtype_of_the_hidden_states(dtype):
    hidden, table = head_inputs()
    result = tied_logits(jnp.asarray(hidden, dtype), table)
    assert result.dtype == jnp.dtype(dtype)
    assert result.shape == (2, 7, 23)


def test_the_table_is_rounded_to_the_dtype_of_the_hidden_states():
    # 1 + 2^-9 is 1 in bfloat16: the two terms then cancel.
    hidden = jnp.array([256.0, -256.0], jnp.bfloat16).reshape(1, 1, 2)
    table = jnp.array([[1.0 + 2.0**-9, 1.0]], jnp.float32)
    assert wide(tied_logits(hidden, table)).item() == 0.0
    assert wide(tied_logits(hidden.astype(jnp.float32), table)).item() == 0.5


@pytest.mark.parametrize("cap", [0.7, 30.0])
def test_soft_cap_matches_the_oracle(cap):
    logits = draw(7, 2, 5, 11, spread=20.0)
    # Division, tanh (a few spacings), product: at most 8 spacings of the cap or of the logit, whichever is larger.
    assert_within(
        soft_capped(jnp.asarray(logits), cap), cap * np.tanh(wide(logits) / cap), 8 * EPS * (cap + np.abs(logits))
    )
    assert soft_capped(jnp.asarray(logits, jnp.bfloat16), cap).dtype == jnp.bfloat16


def test_no_cap_leaves_the_very_array():
    logits = jnp.asarray(draw(7, 2, 5, 11))
    assert soft_capped(logits, 0.0) is logits


def test_negative_cap_is_refused():
    with pytest.raises(ValueError, match=r"soft cap -30\.0 is negative: use a positive bound, or 0 for none"):
        soft_capped(jnp.asarray(draw(7, 2, 5)), -30.0)
