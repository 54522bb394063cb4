"""Rotary embedding of all three kinds against complex multiplication in float64."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from impl.math.rope import Frequencies, rotate
from tests.impl.math import oracles
from tests.impl.math.values import BF16_ROUNDING, EPS, assert_within, draw, wide

DEFAULT = Frequencies("default", 10)
LLAMA = Frequencies("llama3.1", 38, max_timescale=500_000)
YARN = Frequencies("yarn", 10)
VARIANTS = {
    "default": DEFAULT,
    "default, other scales": replace(DEFAULT, head_dim=14, min_timescale=3, max_timescale=70_000),
    "default, stretched": replace(DEFAULT, linear_factor=2.5),
    "llama3.1": LLAMA,
    "llama3.1, small": replace(LLAMA, head_dim=6),
    "yarn": YARN,
    "yarn, halves": replace(YARN, interleave=False),
    "yarn, range not rounded": replace(YARN, truncate=False),
    "yarn, scaled": replace(YARN, attention_scaling=True, factor=7.0),
    "yarn, wide": replace(YARN, head_dim=66, max_timescale=90_000, original_length=3000, beta_fast=20.0),
    "yarn, range starts below 0": replace(YARN, original_length=100),
    "yarn, range ends beyond D": replace(YARN, head_dim=6, original_length=10**9, beta_fast=1e6),
    "yarn, one dimension": replace(YARN, beta_fast=9.0, beta_slow=9.0, truncate=False),
}


def positions():
    """Two packed rows; the second counts far beyond the original length of anything."""
    return np.array([[0, 1, 2, 0, 1, 2, 3], [4994, 4995, 4096, 4097, 5000, 17, 0]], np.int32)


def vectors(frequencies):
    return draw(frequencies.head_dim, 2, 7, 3, frequencies.head_dim)


def radians(frequencies):
    f = frequencies
    if f.kind == "default":
        return oracles.default_radians(f.head_dim, f.min_timescale, f.max_timescale, f.linear_factor)
    if f.kind == "llama3.1":
        return oracles.llama_radians(f.head_dim, f.max_timescale)
    return oracles.yarn_radians(
        f.head_dim, f.max_timescale, f.factor, f.original_length, (f.beta_fast, f.beta_slow), f.truncate
    )


def pairs(x, frequencies):
    if frequencies.kind == "llama3.1" or (frequencies.kind == "yarn" and frequencies.interleave):
        return x[..., 0::2], x[..., 1::2]
    return x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]


def placed(real, imaginary, frequencies):
    if frequencies.kind != "llama3.1":
        return np.concatenate([real, imaginary], axis=-1)
    result = np.empty((*real.shape[:-1], 2 * real.shape[-1]))
    result[..., 0::2], result[..., 1::2] = real, imaginary
    return result


def expected(x, frequencies):
    """The rotated vectors and the worst float32 error of each entry.

    The exponent 2i/D and the power of it err by ln(max/min) * 2i/D spacings each, the few operations after it by 4.
    Llama's mix multiplies an error by up to 8 (the slowing) times 4/3 (the slope of the share), YaRN's adds that of
    the share times the factor, on either side. The angle errs by as much times itself; a sine and the products by 4.
    """
    turned = oracles.turn(*pairs(wide(x), frequencies), positions(), radians(frequencies))
    size = frequencies.head_dim
    logarithms = math.log(frequencies.max_timescale / frequencies.min_timescale) * np.arange(0, size, 2) / size
    spacings = 2 * logarithms + 4
    if frequencies.kind == "llama3.1":
        spacings = spacings * 8 * 4 / 3
    if frequencies.kind == "yarn":
        spacings = spacings + 2 * frequencies.factor
    angles = positions()[:, :, None, None] * np.asarray(radians(frequencies))
    first, second = pairs(np.abs(wide(x)), frequencies)
    room = EPS * (angles * spacings + 4) * (first + second)
    scale = 0.1 * math.log(max(frequencies.factor, 1)) + 1 if frequencies.attention_scaling else 1.0
    return placed(*turned, frequencies) * scale, placed(room, room, frequencies) * scale


@pytest.mark.parametrize("frequencies", VARIANTS.values(), ids=VARIANTS)
def test_matches_the_oracle(frequencies):
    x = vectors(frequencies)
    result, room = expected(x, frequencies)
    for function in (rotate, jax.jit(rotate, static_argnums=2)):
        turned = function(x, positions(), frequencies)
        assert turned.dtype == jnp.float32
        assert_within(turned, result, room)


@pytest.mark.parametrize("frequencies", VARIANTS.values(), ids=VARIANTS)
def test_every_variant_differs_from_every_other(frequencies):
    """The oracle tells the variants apart by far more than the bound: no setting is ignored unseen."""
    x = vectors(frequencies)
    mine, room = expected(x, frequencies)
    for other in VARIANTS.values():
        if other is not frequencies and other.head_dim == frequencies.head_dim:
            assert np.max(np.abs(expected(x, other)[0] - mine) / room) > 50


def test_llama_variant_has_all_three_zones_and_yarn_a_ramp():
    plain = np.array(oracles.default_radians(38, 1, 500_000, 1.0))
    ratio = np.array(radians(LLAMA)) / plain
    assert {"kept": (ratio == 1).any(), "slowed": (np.abs(ratio - 0.125) < 1e-12).any()} == {
        "kept": True,
        "slowed": True,
    }
    assert ((ratio > 0.13) & (ratio < 0.99)).any()
    share = np.array(radians(YARN)) / oracles.default_radians(10, 1, 10_000, 1.0)
    assert ((share > 0.03) & (share < 0.99)).any()


@pytest.mark.parametrize("frequencies", [LLAMA, YARN], ids=["llama3.1", "yarn"])
def test_bfloat16_is_rounded_once_at_the_end(frequencies):
    x = jnp.asarray(vectors(frequencies), jnp.bfloat16)
    turned = rotate(x, positions(), frequencies)
    result, room = expected(x, frequencies)
    assert turned.dtype == jnp.bfloat16
    assert_within(turned, result, np.abs(result) * BF16_ROUNDING * 1.01 + 2 * room)


def test_default_multiplies_in_bfloat16():
    x = jnp.asarray(vectors(DEFAULT), jnp.bfloat16)
    turned = rotate(x, positions(), DEFAULT)
    result, room = expected(x, DEFAULT)
    assert turned.dtype == jnp.bfloat16
    # Sine, product and sum are rounded: three times, of the sum of both coordinates.
    first, second = pairs(np.abs(wide(x)), DEFAULT)
    three = placed(first + second, first + second, DEFAULT) * 3.05 * BF16_ROUNDING
    assert_within(turned, result, three + room)
    once = np.abs(result) * BF16_ROUNDING * 1.01 + 2 * room
    assert np.any(np.abs(wide(turned) - result) > once)


@pytest.mark.parametrize("frequencies", [DEFAULT, LLAMA, YARN], ids=["default", "llama3.1", "yarn"])
def test_gradient_is_the_rotation_back(frequencies):
    """A rotation is orthogonal: its transpose, applied to its result, gives the input."""
    x = vectors(frequencies)
    turned, back = jax.vjp(partial(rotate, positions=positions(), frequencies=frequencies), x)
    first, second = pairs(np.abs(wide(x)), frequencies)
    # sin^2 + cos^2 of one and the same angle, whatever its error: eight roundings, each of both coordinates' sum.
    assert_within(back(turned)[0], wide(x), 8 * EPS * (first + second).max())


def test_equal_frequencies_are_traced_once():
    traced = []

    def turn(x, frequencies):
        traced.append(frequencies)
        return rotate(x, positions(), frequencies)

    jitted = jax.jit(turn, static_argnums=1)
    for frequencies in (DEFAULT, Frequencies("default", 10), replace(DEFAULT, linear_factor=2.5)):
        jitted(vectors(DEFAULT), frequencies)
    assert traced == [DEFAULT, replace(DEFAULT, linear_factor=2.5)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"kind": "llama4", "head_dim": 6},
            r"no rotary embedding called 'llama4': choose from default, llama3\.1, yarn",
        ),
        ({"kind": "default", "head_dim": 7}, r"head_dim=7 is odd: coordinates turn in pairs"),
        ({"kind": "yarn", "head_dim": 6, "max_timescale": 1}, r"yarn needs max_timescale above 1, not 1"),
    ],
)
def test_refuses_frequencies_that_make_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        Frequencies(**settings)


def test_refuses_vectors_of_another_size():
    with pytest.raises(ValueError, match=r"x has 14 coordinates a head, frequencies were made for head_dim=10"):
        rotate(draw(1, 2, 7, 3, 14), positions(), DEFAULT)
