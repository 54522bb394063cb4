"""How far two arrays are apart, through compare: worst place, gap, units of the last place, NaN, infinities, zeros."""

import ml_dtypes
import numpy as np
import pytest

from harness.allowance import Allowance
from harness.comparison import compare
from harness.distance import BLOCK, family, spread
from tests.harness.fabricate import generic, observation

ROOM = Allowance(pattern="outputs/*", because="the sums are ordered otherwise", rtol=1e-2)


def differences(left, right, *allow, channel="outputs"):
    ours, theirs = ({channel: {"x": value}} for value in (left, right))
    return compare(observation(ours), observation(theirs, who="nnx"), allow).differences


def only(left, right, *allow, channel="outputs"):
    (difference,) = differences(left, right, *allow, channel=channel)
    return difference


def test_zeros_of_two_signs_differ_by_nothing_but_their_bits():
    found = only(np.array([1.5, 0.0, 2.5], np.float32), np.array([1.5, -0.0, 2.5], np.float32))
    assert (found.reason, found.left, found.right, found.where) == ("value", "0.0", "-0.0", (1,))
    assert (found.max_abs, found.max_rel, found.ulp) == (0.0, 0.0, 0)
    assert only(np.float32(0.0), np.float32(-0.0), ROOM).allowed_by is ROOM


def test_nan_equals_its_own_bits_and_no_others():
    nan = np.array([0x7FC00000, 0x3FC00000], np.uint32).view(np.float32)
    payload = np.array([0x7FC00001, 0x3FC00000], np.uint32).view(np.float32)
    assert differences(nan, nan.copy()) == ()
    found = only(nan, payload)
    assert (found.reason, found.where, found.max_abs) == ("value", (0,), 0.0)


@pytest.mark.parametrize(
    ("left", "right"), [(np.nan, 1.5), (1.5, np.inf), (np.inf, -np.inf), (np.nan, np.inf), (-np.inf, np.nan)]
)
@pytest.mark.parametrize(
    "dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2, np.complex64]
)
def test_not_finite_on_one_side_is_never_allowed(left, right, dtype):
    a, b = np.full((2, 3), 1.5, dtype), np.full((2, 3), 1.5, dtype)
    a[1, 2], b[1, 2] = left, right
    found = only(a, b, Allowance(pattern="*", because="everything", atol=1e30, rtol=1e30))
    assert (found.reason, found.where, found.allowed_by) == ("nonfinite", (1, 2), None)


def test_infinities_that_agree_leave_the_rest_to_be_compared():
    a = np.array([np.inf, np.nan, 2.0, -np.inf], np.float32)
    b = np.array([np.inf, np.nan, 2.5, -np.inf], np.float32)
    found = only(a, b)
    assert (found.reason, found.max_abs, found.max_rel, found.where) == ("value", 0.5, 0.2, (2,))


def test_value_difference_is_measured_at_its_worst():
    a = generic((3, 4)).astype(np.float64)
    b = a.copy()
    b[0, 1] += 0.001
    b[2, 3] -= 0.25
    found = only(a, b)
    gap = np.abs(a - b)
    assert found.where == (2, 3)
    assert (found.left, found.right) == (str(a[2, 3]), str(b[2, 3]))
    assert found.max_abs == gap.max()
    assert found.max_rel == (gap / np.maximum(np.abs(a), np.abs(b))).max()


@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz"]
)
def test_ulp_counts_representable_steps_across_zero(dtype):
    kind = np.dtype(dtype)
    unsigned = np.dtype(f"u{kind.itemsize}")
    sign = 1 << (8 * kind.itemsize - 1)
    below, above = np.array([sign + 3], unsigned).view(kind), np.array([5], unsigned).view(kind)
    assert only(above, np.array([12], unsigned).view(kind)).ulp == 7
    assert only(below, above).ulp == 8
    assert only(above, below).ulp == 8


def test_bfloat16_neighbours_are_one_ulp_apart():
    a = np.array([1.0, 3.0], ml_dtypes.bfloat16)
    b = np.array([1.0078125, 3.0], ml_dtypes.bfloat16)
    found = only(a, b)
    assert (found.ulp, found.max_abs, found.where) == (1, 0.0078125, (0,))


def test_float64_extremes_do_not_overflow_the_ulp_or_the_gap():
    top = np.finfo(np.float64).max
    found = only(np.array([top]), np.array([-top]), Allowance(pattern="*", because="wide", rtol=1.0))
    assert found.ulp == 2 * int(np.array(top).view(np.uint64))
    assert found.max_abs == np.inf
    assert found.allowed_by is None


def test_integers_are_subtracted_as_integers():
    assert only(np.array([2**63 - 1, -3]), np.array([-(2**63), -3])).max_abs == float(2**64)
    big = only(np.array([2**53]), np.array([2**53 + 1]))
    assert (big.max_abs, big.ulp, big.left, big.right) == (1.0, -1, "9007199254740992", "9007199254740993")
    assert only(np.array([2**64 - 1], np.uint64), np.array([5], np.uint64)).max_abs == float(2**64 - 6)
    assert only(np.array([-100, 90], np.int8), np.array([100, 90], np.int8)).max_abs == 200.0


def test_bools_differ_by_one():
    found = only(np.array([True, False]), np.array([True, True]))
    assert (found.reason, found.left, found.right, found.where, found.max_abs) == ("value", "False", "True", (1,), 1.0)


def test_complex_parts_are_compared_one_by_one():
    found = only(np.array([1 + 2j, 3 + 4j], np.complex64), np.array([1 + 2j, 3 + 4.5j], np.complex64))
    assert (found.where, found.max_abs, found.left) == ((1,), 0.5, "(3+4j)")
    hidden = only(np.array([complex(np.inf, 1)]), np.array([complex(np.inf, 2)]), ROOM)
    assert (hidden.max_abs, hidden.allowed_by) == (1.0, None)


def test_blocks_join_without_a_seam():
    a = np.resize(generic((997,)), (3, BLOCK))
    b = a.copy()
    b[1, 5] += 0.5
    b[2, BLOCK - 1] += 2.0
    found = only(a, b)
    assert found.where == (2, BLOCK - 1)
    assert found.max_abs == pytest.approx(2.0, rel=1e-6)
    assert spread(a, a.copy(), 0.0, 0.0).worst == -1


@pytest.mark.parametrize("dtype", [object, "datetime64[s]", np.longdouble, [("a", "f4")]])
def test_what_has_no_bits_to_compare_is_refused_by_name(dtype):
    with pytest.raises(TypeError, match="convert them"):
        family(np.dtype(dtype))


@pytest.mark.parametrize("beyond", [3, BLOCK + 3])
def test_one_element_beyond_an_allowance_is_enough_in_any_block(beyond):
    a = np.resize(generic((997,)), (2 * BLOCK,))
    b = a.copy()
    b[[5, BLOCK + 5]] *= np.float32(1.005)
    assert only(a, b, ROOM).allowed_by is ROOM
    b[beyond] *= np.float32(1.5)
    assert only(a, b, ROOM).allowed_by is None


def test_of_equal_gaps_the_first_is_the_worst():
    a = np.full(2 * BLOCK, 1.5, np.float32)
    b = a.copy()
    b[[7, 9, BLOCK + 7]] = 2.5
    assert only(a, b).where == (7,)
