"""What YaRN multiplies heads by, alone: no model of the cases has a factor below 1."""

from __future__ import annotations

import numpy as np
import pytest

from impl.config import tiny
from impl.math.rope import rotate
from impl.reference.plain.rotary import magnitude, turned

PLACE = np.int32([[3]])


def yarn(factor, **settings):
    return tiny(rope_type="yarn", rope_factor=factor, **{"rope_attention_scaling": True, **settings})


def difference(config):
    """The largest difference of a rotated head between `impl.math` and the plain model."""
    head = np.float32([0.7, -1.3, 0.4, 2.1, -0.9, 1.6])
    found = rotate(head[None, None, None], PLACE, config.rope)
    return float(np.abs(np.asarray(found, np.float64)[0, 0, 0] - turned(head.astype(np.float64), 3, config)).max())


@pytest.mark.parametrize(("factor", "expected"), [(0.5, 1.0), (1.0, 1.0), (40.0, 1.3688879454113937)])
def test_heads_are_lengthened_by_the_logarithm_of_a_factor_above_one(factor, expected):
    """arXiv 2309.00071, section 3.4: sqrt(1/t) = 0.1 ln s + 1; ln 40 = 3.688879454113936."""
    assert magnitude(yarn(factor)) == pytest.approx(expected, rel=1e-15)
    assert magnitude(yarn(factor, rope_attention_scaling=False)) == magnitude(tiny(rope_factor=factor)) == 1.0


@pytest.mark.parametrize("factor", [1.0, 40.0])
def test_both_lengthen_alike_from_one_on(factor):
    # Angles up to 3 radians, coordinates up to 2.1: two dozen roundings.
    assert difference(yarn(factor)) < 24 * 2.0**-24 * 2.1 * 1.4


def test_both_leave_heads_as_long_as_they_are_below_one():
    assert difference(yarn(0.5)) < 24 * 2.0**-24 * 2.1 * 1.4
