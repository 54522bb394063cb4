"""8-bit products: rounding against formats written out number by number, scales, histories, forward and backward."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from impl.math.fp8 import FORMATS, Meta, next_history, next_scale, product, represented
from tests.impl.math.values import EPS, assert_within, draw, wide

# bits of the fraction, bias, codes at the top that are no numbers: OCP's formats, and AMD's, whose bias is one more
# and whose only NaN is the code of -0.
WRITTEN = {"float8_e4m3fn": (3, 7, 1), "float8_e5m2": (2, 15, 4), "float8_e4m3fnuz": (3, 8, 0)}
WRITTEN["float8_e5m2fnuz"] = (2, 16, 0)
LARGEST = {"float8_e4m3fn": 448.0, "float8_e5m2": 57344.0, "float8_e4m3fnuz": 240.0, "float8_e5m2fnuz": 57344.0}


def numbers(form):
    """Every number of the format that is not negative, ascending, by its definition."""
    fraction, bias, missing = WRITTEN[form]
    steps = 2**fraction
    codes = np.arange(128 - missing)
    exponent, rest = codes // steps, codes % steps
    below = rest / steps * 2.0 ** (1 - bias)
    return np.where(exponent == 0, below, (1 + rest / steps) * 2.0 ** (exponent - bias))


def rounded(values, form):
    """Each value to the nearest number of the format, ties to the even code; what is too large to the largest."""
    known, size = numbers(form), np.abs(wide(values))
    near = np.abs(size[..., None] - known)
    best = near.argmin(axis=-1)
    above = np.minimum(best + 1, len(known) - 1)
    tied = (
        np.take_along_axis(near, best[..., None], -1)[..., 0] == np.take_along_axis(near, above[..., None], -1)[..., 0]
    )
    return np.copysign(known[np.where(tied & (best % 2 == 1), above, best)], wide(values))


@pytest.mark.parametrize("form", WRITTEN)
def test_the_nearest_number_and_the_even_one_between_two(form):
    known = numbers(form)
    assert known[-1] == LARGEST[form] == float(ml_dtypes.finfo(form).max)
    between = (known[1:] + known[:-1]) / 2
    ties = np.concatenate([between, -between, known, [known[-1] * 1.5]]).astype(np.float32)
    generic = draw(3, 7, 11, spread=float(known[-1]) / 2)
    small = draw(4, 5, 13, spread=float(known[3]))
    for values in (ties, generic, small):
        got = represented(jnp.asarray(values), jnp.ones((1,)), jnp.dtype(form))
        assert got.dtype == jnp.dtype(form)
        assert np.array_equal(wide(got), rounded(values, form))
    assert np.abs(generic).max() > known[-1], "nothing was too large"


def test_the_scale_divides_before_rounding():
    values, scale = draw(5, 3, 7), np.float32(0.0037)
    got = represented(jnp.asarray(values), jnp.asarray([scale]), jnp.dtype(jnp.float8_e4m3fn))
    assert np.array_equal(wide(got), rounded(values / scale, "float8_e4m3fn"))


@pytest.mark.parametrize(
    ("history", "old", "new"),
    [
        ((0.3, 0.0, 5.1), 2.5, 5.1 / 448.0),
        ((0.0, 0.0, 0.0), 2.5, 2.5),
        ((0.3, np.inf, 0.1), 2.5, 2.5),
        ((0.3, np.nan, 0.1), 2.5, 2.5),
    ],
    ids=["largest", "empty", "infinite", "no number"],
)
def test_the_largest_amax_becomes_the_largest_number(history, old, new):
    meta = Meta(jnp.asarray(history, jnp.float32), jnp.asarray([old], jnp.float32))
    assert_within(next_scale(meta, jnp.dtype(jnp.float8_e4m3fn)), np.asarray([new]), 2 * EPS * new)


def test_a_history_forgets_its_oldest_amax():
    history, told = jnp.asarray([4.0, 1.0, 2.0, 3.0]), []
    for amax in (5.0, 6.0, 7.0, 8.0, 0.5):
        history = next_history(jnp.asarray([[0.1, -amax], [0.2, 0.3]]), history)
        told.append(np.asarray(history).tolist())
    assert [line[0] for line in told] == [5.0, 6.0, 7.0, 8.0, 0.5]
    assert [sorted(line) for line in told[:2]] == [[2.0, 3.0, 4.0, 5.0], [3.0, 4.0, 5.0, 6.0]]
    assert sorted(told[-1]) == [0.5, 6.0, 7.0, 8.0]


def inputs():
    """x [B, T, H, D], kernel [H, D, E], cotangent [B, T, E], and a Meta of each with unlike histories and scales."""
    values = draw(11, 2, 5, 3, 4), draw(12, 3, 4, 7, spread=0.3), draw(13, 2, 5, 7, spread=1e-3)
    amaxes = (2.9, 0.8), (0.2, 0.7), (0.0009, 0.0)
    metas = [
        Meta(jnp.asarray(amax, jnp.float32), jnp.asarray([s], jnp.float32))
        for amax, s in zip(amaxes, (2, 3, 5), strict=True)
    ]
    return values, tuple(metas)


def expected_of(values, metas, formats):
    """The product and its gradients in float64 from operands rounded by hand, with the sums of absolute terms."""
    forms = [formats.forward.name, formats.forward.name, formats.backward.name]
    scales = [
        np.float32(1) / (np.float32(LARGEST[form]) / np.max(meta.history))
        for form, meta in zip(forms, metas, strict=True)
    ]
    x, kernel, grad = [
        rounded(value / scale, form) * float(scale) for value, scale, form in zip(values, scales, forms, strict=True)
    ]
    products = ("bthd,hde->bte", x, kernel), ("bte,hde->bthd", grad, kernel), ("bthd,bte->hde", x, grad)
    return [(np.einsum(*each), np.einsum(each[0], *map(np.abs, each[1:]))) for each in products], scales


@pytest.mark.parametrize("flavour", FORMATS)
def test_a_product_and_its_gradients_are_those_of_rounded_operands(flavour):
    (x, kernel, grad), metas = inputs()
    formats = FORMATS[flavour]
    out, back = jax.vjp(lambda *operands: product(2, formats, *operands), jnp.asarray(x), jnp.asarray(kernel), metas)
    by_x, by_kernel, after = back(jnp.asarray(grad))
    expected, scales = expected_of((x, kernel, grad), metas, formats)
    for got, (value, sums) in zip((out, by_x, by_kernel), expected, strict=True):
        assert_within(got, value, 16 * EPS * sums)
    for meta, value, scale, old in zip(after, (x, kernel, grad), scales, metas, strict=True):
        assert_within(meta.scale, np.asarray([scale], np.float64), 2 * EPS * float(scale))
        assert np.asarray(meta.history).tolist() == [float(np.abs(value).max()), float(old.history[0])]


def test_rounding_is_visible_and_its_gradient_is_that_of_doing_nothing():
    (x, kernel, _), metas = inputs()
    plain = np.einsum("bthd,hde->bte", wide(x), wide(kernel))
    got = product(2, FORMATS["fp8"], jnp.asarray(x), jnp.asarray(kernel), metas)
    assert 1e-3 < np.abs(wide(got) - plain).max() / np.abs(plain).max() < 0.2
    clipped = jax.grad(lambda x: product(2, FORMATS["fp8"], x, jnp.asarray(kernel), metas).sum())(jnp.asarray(x) * 100)
    assert np.all(np.asarray(clipped) != 0), "a value beyond the largest number still has a gradient"


def test_bfloat16_stays_bfloat16_and_statistics_stay_float32():
    (x, kernel, _), metas = inputs()
    for formats in FORMATS.values():
        short = jnp.asarray(x, jnp.bfloat16), jnp.asarray(kernel, jnp.bfloat16)
        out, back = jax.vjp(lambda *operands, f=formats: product(2, f, *operands), *short, metas)
        by_x, by_kernel, after = back(out)
        assert {str(each.dtype) for each in (out, by_x, by_kernel)} == {"bfloat16"}
        assert {str(leaf.dtype) for meta in after for leaf in meta} == {"float32"}
