"""Every reason for a difference, and what is no difference."""

import ml_dtypes
import numpy as np
import pytest

from harness.allowance import Allowance
from harness.comparison import Counts, compare
from harness.difference import describe
from tests.harness.fabricate import failed, generic, observation

ROOM = Allowance(pattern="outputs/*", because="the sums are ordered otherwise", rtol=1e-2)


def differences(left, right, *allow, channel="outputs"):
    ours, theirs = ({channel: {"x": value}} for value in (left, right))
    return compare(observation(ours), observation(theirs, who="nnx"), allow).differences


def only(left, right, *allow, channel="outputs"):
    (difference,) = differences(left, right, *allow, channel=channel)
    return difference


@pytest.mark.parametrize(
    "dtype",
    [
        "float64",
        "float32",
        "float16",
        "bfloat16",
        "float8_e4m3fn",
        "float8_e5m2",
        "int8",
        "uint64",
        "int4",
        "complex64",
    ],
)
def test_same_bits_are_equal_in_every_dtype(dtype):
    value = generic((3, 5)).astype(np.dtype(dtype))
    assert differences(value, value.copy()) == ()
    assert differences(value.T, np.ascontiguousarray(value.T)) == ()


def test_equal_observations_are_counted():
    channels = {"outputs": {"logits": generic((2, 3)), "tokens": np.array([7, 2])}, "loss": {"total": np.float32(1.7)}}
    found = compare(observation(channels), observation(channels, who="nnx"), ())
    assert (found.left, found.right, found.compared, found.first) == ("linen", "nnx", 3, None)
    assert found.channels["outputs"] == Counts(expected=2, compared=2, missing=0, extra=0, differing=0)


def test_missing_and_extra_names_and_channels():
    left = observation({"outputs": {"a": generic((2,)), "b": generic((2, 3))}, "state": {"rng": np.uint32(5)}})
    right = observation({"outputs": {"c": generic((4,)), "a": generic((2,))}})
    found = compare(left, right, (Allowance(pattern="*", because="to be refused", atol=1e9),))
    assert [(d.channel, d.name, d.reason, d.left, d.right) for d in found.differences] == [
        ("outputs", "b", "missing", "float32[2, 3]", "absent"),
        ("outputs", "c", "extra", "absent", "float32[4]"),
        ("state", "rng", "missing", "uint32[]", "absent"),
    ]
    assert found.channels["outputs"] == Counts(expected=2, compared=1, missing=1, extra=1, differing=0)
    assert found.channels["state"] == Counts(expected=1, compared=0, missing=1, extra=0, differing=0)
    assert all(d.allowed_by is None for d in found.differences)
    assert len(found.unused) == 1


def test_order_is_channels_then_unknown_ones_then_names_as_on_the_left():
    order = {"zeta": ["n"], "disk": ["k"], "alpha": ["m"], "outputs": ["z", "a"], "structure": ["q"], "loss": ["t"]}
    left = observation({c: {n: generic((2,), seed=1) for n in names} for c, names in order.items()})
    right = observation({c: {n: generic((2,), seed=2) for n in sorted(names)} for c, names in order.items()})
    found = [f"{d.channel}/{d.name}" for d in compare(left, right, ()).differences]
    assert found == ["structure/q", "outputs/z", "outputs/a", "loss/t", "disk/k", "alpha/m", "zeta/n"]


def test_nothing_observed_compares_nothing():
    assert compare(observation({}), observation({}), ()).compared == 0


def test_arrays_without_elements_prove_nothing():
    found = compare(
        observation({"outputs": {"x": np.empty((0, 3))}}), observation({"outputs": {"x": np.empty((0, 3))}}), ()
    )
    assert (found.compared, found.differences) == (0, ())
    assert only(np.empty((0, 3)), np.empty((0, 2))).reason == "shape"


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (generic((3,)), generic((3,)).astype(np.float64)),
        (generic((3,)).astype(ml_dtypes.bfloat16), generic((3,)).astype(np.float16)),
        (np.array(3, np.int32), np.array(3, np.int64)),
        (np.array("3"), np.array(3)),
        (np.array(True), np.array(1, np.int8)),
    ],
)
def test_another_dtype_is_a_difference_whatever_the_values(left, right):
    found = only(left, right, ROOM)
    assert (found.reason, found.left, found.right) == ("dtype", str(left.dtype), str(right.dtype))
    assert found.allowed_by is None


def test_another_shape_is_a_difference_even_with_the_same_elements():
    value = generic((6,))
    found = only(value, value.reshape(2, 3), ROOM)
    assert (found.reason, found.left, found.right, found.allowed_by) == ("shape", "[6]", "[2, 3]", None)


def test_text_is_compared_as_text_whatever_width_numpy_gives_it():
    assert differences(np.array(["ab", "c"]), np.array(["ab", "c"], dtype="U9")) == ()
    found = only(np.array(["ab", "cd"]), np.array(["ab", "changed"]), ROOM)
    assert (found.reason, found.left, found.right, found.where) == ("text", "'cd'", "'changed'", (1,))
    assert found.allowed_by is None


def test_long_text_is_shown_from_where_it_differs():
    long = "module @jit_forward " * 40
    found = only(np.array(long + "add f32"), np.array(long + "add bf16"))
    assert found.left.endswith("add f32'")
    assert found.right.endswith("add bf16'")
    assert len(found.left) < 40
    assert found.where == ()


@pytest.mark.parametrize("swap", [1, -1])
def test_allowance_is_symmetric_and_element_by_element(swap):
    pair = [np.array([100.0, 1.0]), np.array([101.0, 1.0])][::swap]
    assert only(*pair, Allowance(pattern="outputs/x", because="why", rtol=1.0 / 101)).allowed_by is not None
    assert only(*pair, Allowance(pattern="outputs/x", because="why", rtol=0.98 / 101)).allowed_by is None
    small = [np.array([100.0, 1.0]), np.array([100.0, 1.5])][::swap]
    assert only(*small, Allowance(pattern="outputs/x", because="why", rtol=1e-2)).allowed_by is None
    assert only(*small, Allowance(pattern="outputs/x", because="why", atol=0.5)).allowed_by is not None


def test_first_matching_allowance_decides_and_the_others_are_unused():
    tight = Allowance(pattern="outputs/x", because="tight", atol=1e-9)
    wide = Allowance(pattern="outputs/*", because="wide", atol=1.0)
    other = Allowance(pattern="gradients/*", because="other", atol=1.0)
    left, right = observation({"outputs": {"x": generic((2,))}}), observation({"outputs": {"x": generic((2,)) + 0.25}})
    found = compare(left, right, (tight, wide, other))
    assert found.first is not None
    assert found.unused == (wide, other)
    found = compare(left, right, (wide, tight))
    assert (found.first, found.unused, found.differences[0].allowed_by) == (None, (tight,), wide)


def test_an_allowance_over_equal_values_is_unused():
    same = observation({"outputs": {"x": generic((2,))}})
    assert compare(same, same, (ROOM,)).unused == (ROOM,)


@pytest.mark.parametrize(
    ("left", "right", "words"),
    [
        (True, False, ("true", "false")),
        (False, True, ("false", "true")),
        (False, False, ("false", "false")),
        (1.5, True, ("not a claim: float64[]", "true")),
        ([True], [True], ("not a claim: bool[1]", "not a claim: bool[1]")),
    ],
)
def test_a_claim_that_does_not_hold_is_a_difference_even_on_both_sides(left, right, words):
    found = only(left, right, Allowance(pattern="*", because="everything", atol=2.0), channel="claims")
    assert (found.reason, (found.left, found.right), found.allowed_by) == ("claim", words, None)
    assert differences(True, True, channel="claims") == ()


def test_one_error_is_the_first_difference():
    whole = observation({"structure": {"a": np.array("f32")}, "outputs": {"x": generic((2,))}})
    broken = failed(whole, "ValueError", "no such axis")
    found = compare(whole, broken, ())
    assert found.compared == 0
    assert [d.reason for d in found.differences] == ["error", "missing", "missing"]
    assert (found.first.left, found.first.right) == ("no error", "ValueError: no such axis")
    assert found.channels["outputs"] == Counts(expected=1, compared=0, missing=1, extra=1, differing=0)
    assert compare(broken, whole, ()).first.right == "no error"


def test_two_errors_are_one_value():
    whole = observation({"outputs": {"x": generic((2,))}})
    one, other = failed(whole, "ValueError", "bad shape"), failed(observation({}, who="nnx"), "ValueError", "bad shape")
    found = compare(one, other, ())
    assert (found.compared, found.differences) == (1, ())
    for kind, message in [("TypeError", "bad shape"), ("ValueError", "bad dtype")]:
        found = compare(one, failed(whole, kind, message), ())
        assert (found.compared, found.first.reason, found.channels["outputs"].differing) == (1, "error", 1)


@pytest.mark.parametrize(
    ("left", "right", "words"),
    [
        (np.array([1.0, 2.0]), np.array([1.0, 2.5]), "outputs/x differs at [1]: 2.0 and 2.5, max abs 0.5, max rel 0.2"),
        (np.array([3]), np.array([5]), "outputs/x differs at [0]: 3 and 5, max abs 2, max rel 0.4"),
        (np.array([1.5]), np.array([np.nan]), "outputs/x differs in nonfinite at [0]: 1.5 and nan"),
        (np.array("a"), np.array("b"), "outputs/x differs in text: 'a' and 'b'"),
    ],
)
def test_differences_in_words(left, right, words):
    assert describe(only(left, right)).startswith(words)
