"""Activations and their products."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from impl.math.gates import ACTIVATIONS, activate, clipped_gate, gate
from tests.impl.math import oracles
from tests.impl.math.values import EPS, assert_within, draw, wide

NAMES = ("gelu", "linear", "relu", "sigmoid", "silu")


@pytest.mark.parametrize("name", NAMES)
def test_activation_matches_the_oracle(name):
    x = draw(8, 2, 7, 13, spread=4.0)
    assert {-1, 1} <= set(np.sign(x).ravel())
    # An exponential or tanh errs by a few spacings, of an argument that itself errs: at most 8 in 1 + |x|.
    assert_within(activate(name, x), oracles.activate(name, wide(x)), 8 * EPS * (1 + np.abs(x)))


def test_all_names_are_covered():
    assert tuple(ACTIVATIONS) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_activation_keeps_the_dtype(name, dtype):
    assert activate(name, jnp.asarray(draw(9, 5, 3), dtype)).dtype == jnp.dtype(dtype)


@pytest.mark.parametrize("names", [("silu", "linear"), ("gelu",), ("sigmoid", "relu", "silu")])
def test_gate_is_the_product(names):
    projections = tuple(draw(20 + index, 2, 5, 13) for index in range(len(names)))
    factors = [oracles.activate(name, wide(x)) for name, x in zip(names, projections, strict=True)]
    # As above for each factor, relative to sizes that bound the factors themselves, and a rounding for each product.
    room = np.prod([1 + np.abs(x) for x in projections], axis=0) * EPS * 9 * len(names)
    assert_within(gate(names, projections), np.prod(factors, axis=0), room)


def test_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(
        ValueError, match=r"no activation called 'swish': choose from gelu, linear, relu, sigmoid, silu"
    ):
        activate("swish", draw(1, 3))
    with pytest.raises(ValueError, match=r"no activation called 'tanh'"):
        gate(("silu", "tanh"), (draw(1, 3), draw(2, 3)))


def test_lengths_must_agree():
    with pytest.raises(ValueError, match=r"2 activations for 1 projections: give one for each"):
        gate(("silu", "linear"), (draw(1, 3),))
    with pytest.raises(ValueError, match=r"0 activations for 0 projections"):
        gate((), ())


def test_the_clipped_gate_is_gpt_oss_formula():
    opened, value = draw(30, 2, 5, 13, spread=2.0), draw(31, 2, 5, 13, spread=2.0)
    assert np.any(opened > 1.5)
    assert np.any(np.abs(value) > 1.5)
    found = clipped_gate(("sigmoid", "linear"), (opened, value), 1.5)
    low, bounded = np.minimum(wide(opened), 1.5), np.clip(wide(value), -1.5, 1.5)
    expected = low / (1.0 + np.exp(-1.702 * low)) * (bounded + 1.0)
    assert_within(found, expected, 16 * EPS * (1 + np.abs(low)) * (1 + np.abs(bounded)))
    with pytest.raises(ValueError, match=r"a clipped gate is of a gate and a linear value, got \('silu', 'relu'\)"):
        clipped_gate(("silu", "relu"), (opened, value), 1.5)
