"""The straight line from a ticket to a verdict, on three layers in Linen and in NNX."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from harness.allowance import Allowance
from harness.case import Case
from harness.discover import expand
from harness.golden import accept, pending
from harness.observe import observe
from harness.runner.dropped import collect
from harness.scenario import Scenario
from harness.verdict import Ending, Rung, exit_code
from harness.verify import scenario_of, verify, verify_case
from tests.harness import tiny_pairs
from tests.harness.accepted_goldens import at_a_desk
from tests.harness.tiny_pairs import LINEN, NNX, NnxFlat, NnxSlipped, case_of, linen_outputs, nnx_outputs, pair_of, side

NONE = Path("")


@pytest.fixture
def goldens(tmp_path, monkeypatch):
    """A folder that holds the golden of the honest pair's forward pass."""
    at_a_desk(monkeypatch)
    folder = tmp_path / "goldens"
    folder.mkdir()
    return store(folder, "forward")


def store(folder: Path, program: str, **scenario) -> Path:
    case = case_of(tiny_pairs.HONEST, program, **scenario)
    seen = observe(LINEN, case, case.runs[0])
    pending(folder, case.scenario, {case.golden: (seen, case.digest)}, {case.golden: case.digest})
    accept(folder, case.scenario)
    return folder


def judged(goldens, right=NNX, left=LINEN, program="forward", **scenario):
    pair = pair_of(left, right)
    return verify_case(pair, case_of(pair, program, **scenario), goldens, NONE)


def faulty(kind, layer):
    return side("nnx", "nnx", partial(nnx_outputs, kinds={layer: kind}))


def doing(name, framework, outputs, change):
    """A side whose output is changed after its modules ran."""

    def forward(case: Case, run):
        return change(tiny_pairs.forward(outputs, case, run))

    return side(name, framework, outputs, forward=forward)


def with_y(change):
    return lambda channels: {**channels, "outputs": {"y": change(np.asarray(channels["outputs"]["y"]))}}


def test_two_honest_sides_at_their_golden_are_bitwise_equal(goldens):
    found = judged(goldens)
    assert (found.rung, found.ending, found.moved, found.passed) == (Rung.BITWISE, None, "nobody", True)
    assert (found.case, found.scenario, found.sides) == ("forward[default,linen:nnx]", "forward", ("linen", "nnx"))
    assert (found.first, found.module, found.not_compared) == (None, "", {})
    assert found.parity.compared == 2
    assert [drift.compared for drift in found.drift] == [2, 2]
    assert {who: set(seen.modules) for who, seen in found.attestations.items()} == {"linen": {"linen"}, "nnx": {"nnx"}}
    assert found.case_digest == case_of(tiny_pairs.HONEST).digest


def test_a_ticket_is_verified_by_name_alone(tmp_path):
    scenario = tiny_pairs.HONEST.scenarios["grad"]
    ticket = expand("grad", scenario, pair="tests.harness.tiny_pairs:HONEST")[0]
    found = verify(ticket, tmp_path / "goldens", NONE)
    assert (found.case, found.rung, found.ending, found.passed) == (ticket.case, Rung.BITWISE, None, True)
    assert found.parity.channels["gradients"].compared == 3
    reason = found.not_compared["golden"]
    assert reason.startswith(f"tiny has no goldens in {tmp_path / 'goldens'}: make them with `harness golden regen")
    (tmp_path / "goldens").mkdir()
    assert verify(ticket, tmp_path / "goldens", NONE).ending is Ending.MISSING_GOLDEN


def test_a_scenario_of_a_folder_goes_before_the_pairs_own(tmp_path):
    text = "from harness import Scenario\nSCENARIO = Scenario(why='from a file', program='forward')\n"
    (tmp_path / "grad.py").write_text(text)
    ticket = expand("grad", tiny_pairs.HONEST.scenarios["grad"])[0]
    assert scenario_of(ticket, tiny_pairs.HONEST).program == "grad"
    assert scenario_of(replace(ticket, folder=str(tmp_path)), tiny_pairs.HONEST).why == "from a file"


def test_a_golden_that_is_due_and_missing_is_an_ending(tmp_path):
    for folder in (tmp_path, tmp_path / "gone"):
        found = judged(folder)
        assert (found.rung, found.ending, exit_code([found])) == (Rung.BITWISE, Ending.MISSING_GOLDEN, 3)
        assert found.not_compared == {}


def test_a_golden_of_another_case_is_stale(goldens):
    found = judged(goldens, settings={"scale": 0.5})
    assert (found.rung, found.ending, found.passed) == (Rung.BITWISE, Ending.STALE_GOLDEN, False)


@pytest.mark.parametrize("layer", ["first", "third"])
def test_a_fault_on_one_side_is_named_with_its_module(goldens, layer):
    right = judged(goldens, faulty(NnxFlat, layer))
    assert (right.rung, right.ending, right.moved, right.module) == (Rung.DIVERGED, None, "nnx", layer)
    assert (right.first.channel, right.first.name, exit_code([right])) == ("outputs", "y", 1)
    # The same fault in the ruler: the golden knows who moved.
    flat = side("linen", "nnx", partial(nnx_outputs, kinds={layer: NnxFlat}))
    left = judged(goldens, side("nnx", "linen", linen_outputs), flat)
    assert (left.rung, left.moved, left.module) == (Rung.DIVERGED, "linen", layer)


def test_a_gradient_fault_is_named_with_its_module(goldens):
    found = judged(goldens, faulty(NnxSlipped, "second"), program="grad")
    assert (found.rung, found.ending, found.module) == (Rung.DIVERGED, Ending.MISSING_GOLDEN, "second")
    assert (found.moved, found.first.channel) == ("nnx", "gradients")


def test_a_fault_that_both_sides_share_is_seen_by_the_golden(goldens):
    doubled = with_y(lambda y: 2 * y)
    found = judged(goldens, doing("nnx", "nnx", nnx_outputs, doubled), doing("linen", "linen", linen_outputs, doubled))
    assert (found.rung, found.ending, found.moved) == (Rung.BITWISE, Ending.DRIFTED, "both together")
    assert not found.passed
    assert exit_code([found]) == 1


@pytest.mark.parametrize("outputs", [linen_outputs, tiny_pairs.mixed_outputs])
def test_a_side_that_lies_about_its_framework_is_refused(goldens, outputs):
    found = judged(goldens, side("nnx", "nnx", outputs))
    assert (found.rung, found.ending, found.parity, found.module) == (None, Ending.REFUSED, None, "")
    assert "side nnx declares nnx, but forward traced linen" in found.detail
    assert exit_code([found]) == 1


def test_a_refused_case_has_no_place():
    outputs = partial(nnx_outputs, kinds={"second": NnxFlat})
    liar = side("nnx", "nnx", outputs, forward=lambda case, run: {"outputs": {"y": 0.5}})
    found = judged(Path("nowhere"), liar)
    assert (found.ending, found.module) == (Ending.REFUSED, "")


def test_an_allowance_must_cover_and_must_be_needed(goldens):
    near = doing("nnx", "nnx", nnx_outputs, with_y(lambda y: y * np.float32(1 + 1e-6)))
    room = Allowance(pattern="outputs/*", rtol=1e-5, because="summed in another order")
    assert (judged(goldens, near).rung, judged(goldens, near).module) == (Rung.DIVERGED, "model")
    allowed = judged(goldens, near, allow=(room,))
    assert (allowed.rung, allowed.ending, allowed.passed) == (Rung.ALLOWED, None, True)
    assert "summed in another order" in allowed.why_not_higher
    unused = judged(goldens, allow=(room,))
    assert (unused.rung, unused.ending, unused.passed) == (Rung.BITWISE, Ending.UNUSED_ALLOWANCE, False)
    elsewhere = judged(goldens, near, allow=(replace(room, pattern="loss/*"),))
    assert (elsewhere.rung, elsewhere.passed) == (Rung.DIVERGED, False)


def failing(name, framework, outputs, message="no weight is called third/kernel"):
    def forward(case, run):
        tiny_pairs.forward(outputs, case, run)
        raise LookupError(message)

    return side(name, framework, outputs, forward=forward)


def test_an_error_on_one_side_is_a_divergence_of_that_side(goldens):
    right = judged(goldens, failing("nnx", "nnx", nnx_outputs))
    assert (right.rung, right.moved, right.first.name) == (Rung.DIVERGED, "nnx", "error")
    assert right.first.right == "LookupError: no weight is called third/kernel"
    left = judged(goldens, left=failing("linen", "linen", linen_outputs))
    assert (left.rung, left.moved, exit_code([left, right])) == (Rung.DIVERGED, "linen", 1)


def test_errors_on_both_sides_are_never_agreement(goldens):
    left = failing("linen", "linen", linen_outputs)
    alike = judged(goldens, failing("nnx", "nnx", nnx_outputs), left)
    assert (alike.rung, alike.ending, exit_code([alike])) == (None, Ending.ERROR, 4)
    assert alike.detail == "both sides failed alike: LookupError: no weight is called third/kernel"
    apart = judged(goldens, failing("nnx", "nnx", nnx_outputs, "another"), left)
    assert (apart.rung, apart.first.reason) == (Rung.DIVERGED, "error")


@pytest.mark.parametrize("channels", [{}, {"outputs": {}}, {"outputs": {"y": np.empty((0, 3))}}])
def test_nothing_compared_is_no_agreement(goldens, channels):
    empty = (
        doing(name, name, outputs, lambda _: channels)
        for name, outputs in (("nnx", nnx_outputs), ("linen", linen_outputs))
    )
    found = judged(goldens, *empty)
    assert (found.rung, found.ending, found.passed) == (None, Ending.NOTHING_COMPARED, False)


def false(channels):
    return {**channels, "claims": {"y is not zero": np.bool_(False)}}


def test_a_false_claim_on_one_side_is_a_divergence_of_that_side(goldens):
    right = judged(goldens, doing("nnx", "nnx", nnx_outputs, false))
    assert (right.rung, right.moved, right.first.channel) == (Rung.DIVERGED, "nnx", "claims")
    left = judged(goldens, left=doing("linen", "linen", linen_outputs, false))
    assert (left.rung, left.moved, left.first.channel) == (Rung.DIVERGED, "linen", "claims")


def false_on_both(goldens):
    return judged(goldens, doing("nnx", "nnx", nnx_outputs, false), doing("linen", "linen", linen_outputs, false))


def test_a_claim_that_is_false_on_both_sides_is_a_divergence_of_both(tmp_path, goldens):
    found = false_on_both(tmp_path / "none")
    assert (found.rung, found.moved, found.first.channel) == (Rung.DIVERGED, "both together", "claims")
    assert found.detail.startswith("the claim 'claims/y is not zero' does not hold")
    held = false_on_both(goldens)
    assert (held.rung, held.first.channel, held.passed) == (Rung.DIVERGED, "claims", False)


def test_a_claim_that_is_false_on_both_sides_names_both_together_beside_a_golden_too(goldens):
    assert false_on_both(goldens).moved == "both together"


def test_a_relation_compares_one_side_with_itself(goldens):
    agree = judged(goldens, relation=(("forward", {"scale": 1.0}),))
    assert (agree.sides, agree.rung, agree.ending) == (("linen", "linen"), Rung.BITWISE, None)
    differ = judged(goldens, relation=(("forward", {"scale": 1.5}),))
    assert (differ.rung, differ.moved, differ.module) == (Rung.DIVERGED, "second linen", "first")


def test_what_the_ruler_showed_is_left_as_a_candidate(goldens, tmp_path):
    case = case_of(tiny_pairs.HONEST)
    aside = tmp_path / "aside"
    verify_case(tiny_pairs.HONEST, case, goldens, aside)
    assert set(collect(aside, "forward")) == {case.golden}
    assert collect(aside, "forward")[case.golden].digest == case.digest


def test_a_side_that_writes_to_its_weights_does_not_change_the_others():
    def forward(case: Case, run):
        case.weights["second/kernel"][:] *= 2
        return tiny_pairs.forward(linen_outputs, case, run)

    spoiling = side("linen", "linen", linen_outputs, forward=forward)
    pair = pair_of(spoiling, NNX, forward=Scenario(why="it is wrong", program="forward"))
    assert not verify_case(pair, case_of(pair), Path("nowhere"), NONE).passed
