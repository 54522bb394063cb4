"""The second ruler: room by dtype, and exactness of everything else."""

import numpy as np
import pytest

from harness.drift import DRIFT, allowances, drift_compare, scale
from tests.harness.fabricate import generic, observation


def first(golden, seen, channel="outputs"):
    return drift_compare(observation({channel: {"x": golden}}), observation({channel: {"x": seen}})).first


@pytest.mark.parametrize("dtype", sorted(DRIFT))
def test_every_float_may_drift_within_its_rule_and_no_further(dtype):
    kind, rule = np.dtype(dtype), DRIFT[dtype]
    room = rule.rtol * 1.5 + rule.atol_of_scale * 8.0
    golden, near, far = (np.array([x, -8.0]).astype(kind) for x in (1.5, 1.5 + room / 2, 1.5 + room * 4))
    assert first(golden, far).where == (0,)
    found = drift_compare(observation({"outputs": {"x": golden}}), observation({"outputs": {"x": near}}))
    assert found.first is None
    assert found.differences[0].allowed_by.because == rule.because
    assert found_room(golden) == pytest.approx(rule.atol_of_scale * 8.0)


def found_room(golden):
    return allowances(observation({"outputs": {"x": golden}}))[0].atol


def test_small_elements_of_a_large_array_keep_the_error_of_the_sum():
    golden = np.array([1e-7, 40.0], np.float32)
    assert first(golden, np.array([3e-3, 40.0], np.float32)) is None
    assert first(golden, np.array([3e-2, 40.0], np.float32)).where == (0,)
    assert first(golden[:1], np.array([3e-4], np.float32)).reason == "value"


@pytest.mark.parametrize(
    ("golden", "seen", "reason"),
    [
        (np.array([900001]), np.array([900002]), "value"),
        (np.array("module"), np.array("modulf"), "text"),
        (np.array([1 + 2j]), np.array([1 + 2.0000000000001j]), "value"),
        (generic((3,)), generic((3,)).astype(np.float64), "dtype"),
        (generic((4,)), generic((2, 2)), "shape"),
        (np.array([1.5, np.inf]), np.array([1.5, 1e300]), "nonfinite"),
    ],
)
def test_all_else_is_exact(golden, seen, reason):
    assert first(golden, seen).reason == reason


def test_claims_are_exact_against_a_golden():
    assert first(np.array(True), np.array(False), channel="claims").reason == "claim"


def test_patterns_speak_of_their_own_array_only():
    values = {"layers[0]/w": generic((3,)), "layers0/w": generic((3,), seed=2) * 100}
    found = allowances(observation({"updates": values, "state": {"count": np.array(4)}}))
    assert [[a.covers("updates", name) for name in values] for a in found] == [[True, False], [False, True]]
    assert found[0].atol < found[1].atol


def test_scale_is_of_finite_elements():
    assert scale(np.array([1.5, -7.0, np.inf, np.nan])) == 7.0
    assert scale(np.array([np.nan])) == 0.0
    assert scale(np.empty((0, 3))) == 0.0
