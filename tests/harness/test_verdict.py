"""The judge's truth table, endings, exit codes, and verdicts as JSON."""

import numpy as np
import pytest

from harness.allowance import Allowance
from harness.comparison import Comparison, compare
from harness.drift import drift_compare
from harness.judge import Evidence, Held, NotHeld, judge
from harness.verdict import Ending, Rung, Verdict, exit_code
from tests.harness.fabricate import failed, generic, observation

SIDES = ("linen", "nnx")
UNASKED = NotHeld(because="the quick subset holds nothing against goldens")
BASE = generic((3, 4))
NEAR = BASE * np.float32(1 + 1e-6)
FAR = BASE * np.float32(1.5)
FARTHER = BASE * np.float32(2.5)
WIDE = Allowance(pattern="outputs/*", because="the kernel sums in another order", rtol=0.9)


def run(value, who="linen", claim=True):
    return observation({"claims": {"masks differ": claim}, "outputs": {"logits": value}}, who=who)


def verdict(left, right, golden=UNASKED, allow=(), refusal="", sides=SIDES):
    parity = compare(left, right, allow)
    evidence = Evidence(left=left, right=right, parity=parity, golden=golden, refusal=refusal)
    return judge("llama2[scan0]", "llama2", sides, evidence)


def against(golden, left, right):
    return Held(left=drift_compare(golden, left), right=drift_compare(golden, right))


@pytest.mark.parametrize(
    ("values", "allow", "expected"),
    [
        ((BASE, BASE, BASE), (), ("nobody", Rung.BITWISE, None)),
        ((BASE, BASE, NEAR), (), ("nobody", Rung.BITWISE, None)),
        ((BASE, BASE, FAR), (), ("both together", Rung.BITWISE, Ending.DRIFTED)),
        ((BASE, FAR, BASE), (WIDE,), ("nnx", Rung.ALLOWED, Ending.DRIFTED)),
        ((FAR, BASE, BASE), (WIDE,), ("linen", Rung.ALLOWED, Ending.DRIFTED)),
        ((BASE, FAR, FARTHER), (WIDE,), ("both together", Rung.ALLOWED, Ending.DRIFTED)),
        ((BASE, NEAR, BASE), (WIDE,), ("nobody", Rung.ALLOWED, None)),
        ((BASE, FAR, BASE), (), ("nnx", Rung.DIVERGED, None)),
        ((FAR, BASE, BASE), (), ("linen", Rung.DIVERGED, None)),
        ((FAR, FARTHER, BASE), (), ("both apart", Rung.DIVERGED, None)),
        ((BASE, NEAR, BASE), (), ("nnx", Rung.DIVERGED, None)),
    ],
)
def test_triangle(values, allow, expected):
    """values: left, right, golden. expected: moved, rung, ending."""
    left, right, golden = run(values[0]), run(values[1], "nnx"), run(values[2])
    found = verdict(left, right, against(golden, left, right), allow)
    assert (found.moved, found.rung, found.ending) == expected
    assert found.passed == (found.rung is not Rung.DIVERGED and found.ending is None)
    assert len(found.drift) == 2
    assert found.parity.first == found.first


def test_when_the_golden_cannot_tell_the_detail_says_so():
    left, right = run(BASE), run(NEAR, "nnx")
    found = verdict(left, right, against(run(BASE), left, right))
    assert "cannot tell" in found.detail
    assert "the ruler, linen" in found.detail
    left, right = run(BASE), run(FAR, "nnx")
    detail = verdict(left, right, against(run(BASE), left, right)).detail
    assert detail.startswith("nnx left the golden: outputs/logits differs at")


def test_a_golden_that_shares_no_value_does_not_count_as_within_drift():
    left, right = run(BASE), run(BASE, "nnx")
    nothing = Comparison(left="linen", right="nnx", channels={}, differences=())
    found = verdict(left, right, Held(left=nothing, right=nothing))
    assert (found.rung, found.ending, found.moved) == (Rung.BITWISE, Ending.DRIFTED, "both together")


def test_without_a_golden_the_ruler_is_assumed():
    found = verdict(run(BASE), run(FAR, "nnx"))
    assert (found.moved, found.rung) == ("nnx", Rung.DIVERGED)
    assert "without a golden the ruler, linen, is assumed" in found.detail
    assert found.not_compared == {"golden": UNASKED.because}
    assert verdict(run(BASE), run(BASE, "nnx")).moved == "nobody"


@pytest.mark.parametrize("ending", [Ending.MISSING_GOLDEN, Ending.STALE_GOLDEN, Ending.TAMPERED_GOLDEN])
def test_a_golden_that_was_due_is_an_ending_beside_the_rung(ending):
    due = NotHeld(ending=ending, because="run `harness golden regenerate`")
    found = verdict(run(BASE), run(BASE, "nnx"), due)
    assert (found.rung, found.ending, found.passed, found.moved) == (Rung.BITWISE, ending, False, "nobody")
    assert "harness golden regenerate" in found.detail
    assert exit_code([found]) == 3
    diverged = verdict(run(BASE), run(FAR, "nnx"), due)
    assert (diverged.rung, diverged.ending, exit_code([diverged])) == (Rung.DIVERGED, ending, 1)


def test_why_not_higher():
    assert verdict(run(BASE), run(BASE, "nnx")).why_not_higher.startswith("not PROVED: no proof was attempted")
    allowed = verdict(run(BASE), run(NEAR, "nnx"), allow=(WIDE,)).why_not_higher
    assert allowed.startswith("not BITWISE: outputs/logits differs at")
    assert 'because "the kernel sums in another order"' in allowed
    assert verdict(run(BASE), run(FAR, "nnx")).why_not_higher.startswith("not ALLOWED: outputs/logits differs at")


def test_refused_by_attestation_says_nothing_about_values():
    found = verdict(run(BASE), run(BASE, "nnx"), refusal="both runs traced impl.linen.Decoder")
    assert (found.ending, found.rung, found.parity) == (Ending.REFUSED, None, None)
    assert found.detail == "both runs traced impl.linen.Decoder"
    assert exit_code([found]) == 1


@pytest.mark.parametrize("channels", [{}, {"outputs": {"x": np.empty((0, 2))}}])
def test_nothing_compared(channels):
    found = verdict(observation(channels), observation(channels, who="nnx"))
    assert (found.rung, found.ending, found.passed) == (None, Ending.NOTHING_COMPARED, False)
    assert exit_code([found]) == 1


def test_the_same_error_on_both_sides_is_an_error_not_agreement():
    left, right = failed(run(BASE), "ValueError", "bad axis"), failed(run(BASE, "nnx"), "ValueError", "bad axis")
    found = verdict(left, right)
    assert (found.rung, found.ending, found.passed) == (None, Ending.ERROR, False)
    assert found.detail == "both sides failed alike: ValueError: bad axis"
    assert exit_code([found]) == 4


@pytest.mark.parametrize("broken", [0, 1])
def test_an_error_on_one_side_is_a_divergence_of_that_side(broken):
    runs = [run(BASE), run(BASE, "nnx")]
    runs[broken] = failed(runs[broken], "ValueError", "bad axis")
    for golden in (UNASKED, against(run(BASE), *runs)):
        found = verdict(*runs, golden)
        assert (found.rung, found.moved, found.first.reason) == (Rung.DIVERGED, SIDES[broken], "error")
        assert exit_code([found]) == 1


def test_other_errors_on_both_sides_diverge():
    runs = [failed(run(BASE), "ValueError", "bad axis"), failed(run(BASE, "nnx"), "TypeError", "bad axis")]
    found = verdict(*runs, against(run(BASE), *runs))
    assert (found.rung, found.ending, found.moved) == (Rung.DIVERGED, None, "both apart")
    assert found.why_not_higher.endswith("ValueError: bad axis and TypeError: bad axis")


@pytest.mark.parametrize(
    ("left", "right", "moved"), [(False, True, "linen"), (True, False, "nnx"), (False, False, "both together")]
)
def test_a_false_claim_names_the_side_that_makes_it(left, right, moved):
    runs = run(BASE, claim=left), run(BASE, "nnx", claim=right)
    for golden in (UNASKED, against(run(BASE), *runs)):
        found = verdict(*runs, golden)
        assert (found.rung, found.moved, found.first.reason) == (Rung.DIVERGED, moved, "claim")
        assert "masks differ" in found.detail


def test_an_unused_allowance_fails_a_case_that_agrees():
    found = verdict(run(BASE), run(BASE, "nnx"), allow=(WIDE,))
    assert (found.rung, found.ending, found.passed) == (Rung.BITWISE, Ending.UNUSED_ALLOWANCE, False)
    assert "'outputs/*'" in found.detail
    assert exit_code([found]) == 1
    missing = NotHeld(ending=Ending.MISSING_GOLDEN, because="no golden yet")
    both = verdict(run(BASE), run(BASE, "nnx"), missing, allow=(WIDE,))
    assert both.ending is Ending.UNUSED_ALLOWANCE
    assert both.detail.endswith("no golden yet")


def test_a_relation_within_one_side_tells_its_runs_apart():
    found = verdict(run(BASE), run(FAR), sides=("linen", "linen"))
    assert found.moved == "second linen"
    assert list(found.attestations) == ["first linen", "second linen"]


def test_a_verdict_carries_what_the_runs_say():
    left = run(BASE)
    found = verdict(left, run(BASE, "nnx"))
    assert (found.case, found.scenario, found.sides, found.seconds) == ("llama2[scan0]", "llama2", SIDES, 0.5)
    assert (found.environment, found.case_digest) == (left.environment, left.case_digest)
    assert found.attestations["nnx"].own == ("impl.nnx.Decoder",)


def ended(ending, rung=None):
    return Verdict(case="c", scenario="s", sides=SIDES, ending=ending, rung=rung)


GOOD = ended(None, Rung.BITWISE)
CODES = {
    Ending.NOTHING_COMPARED: 1,
    Ending.MISSING_GOLDEN: 3,
    Ending.STALE_GOLDEN: 3,
    Ending.TAMPERED_GOLDEN: 3,
    Ending.DRIFTED: 1,
    Ending.UNUSED_ALLOWANCE: 1,
    Ending.REFUSED: 1,
    Ending.NONDETERMINISTIC: 1,
    Ending.ERROR: 4,
    Ending.TIMEOUT: 4,
    Ending.OUT_OF_MEMORY: 4,
    Ending.SKIPPED: 0,
}


@pytest.mark.parametrize("ending", Ending)
def test_exit_code_of_each_ending_beside_a_good_case(ending):
    assert exit_code([GOOD, ended(ending)]) == CODES[ending]


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([], 1),
        ([GOOD], 0),
        ([ended(None, Rung.ALLOWED), GOOD], 0),
        ([ended(None, Rung.DIVERGED)], 1),
        ([ended(None)], 1),
        ([ended(Ending.SKIPPED), ended(Ending.SKIPPED)], 1),
        ([ended(Ending.MISSING_GOLDEN, Rung.BITWISE), ended(Ending.TIMEOUT)], 4),
        ([ended(Ending.ERROR), ended(Ending.DRIFTED, Rung.BITWISE), ended(Ending.STALE_GOLDEN)], 1),
        ([ended(Ending.SKIPPED), ended(Ending.MISSING_GOLDEN)], 3),
    ],
)
def test_exit_code_precedence(verdicts, code):
    assert exit_code(verdicts) == code
