"""The comparisons notice an edited formula of the plain model, and a slip in what both sides share."""

from __future__ import annotations

import pytest

import impl.math.loss
import impl.math.masks
from impl.reference.plain.losses import summed
from impl.sides import side
from impl.training.objective import objective as shared
from tests.impl.plain.cases import CASES, SETTINGS, SIDES
from tests.impl.plain.faults import FAULTS, LOSSES, called
from tests.impl.plain.rulers import agree, exact_logits, logits_room, losses_agree, plain_logits


@pytest.fixture
def planted(monkeypatch):
    """Edits one formula until the test ends. What has to be exact is computed before."""

    def plant(fault):
        logits_room(CASES[fault.case])
        if isinstance(fault.room, dict):
            monkeypatch.setitem(fault.room, fault.name, fault.edit(fault.room[fault.name]))
        else:
            monkeypatch.setattr(fault.room, fault.name, fault.edit(getattr(fault.room, fault.name)))

    return plant


@pytest.mark.parametrize("name", FAULTS)
def test_a_formula_edited_in_the_plain_model_is_seen(name, planted, logits_of):
    case = CASES[FAULTS[name].case]
    found = logits_of(FAULTS[name].case, "nnx")
    planted(FAULTS[name])
    with pytest.raises(AssertionError, match="largest error"):
        agree(found, plain_logits(case), logits_room(case))


def plain_losses(case):
    made = case.batch
    return summed(exact_logits(case), made.targets, made.target_segments, SETTINGS)


@pytest.mark.parametrize("name", LOSSES)
def test_a_formula_edited_in_the_plain_losses_is_seen(name, planted, logits_of):
    fault, term = LOSSES[name]
    case = CASES[fault.case]
    loss, terms = shared(logits_of(fault.case, "linen"), case.batch, SETTINGS)
    found = {"loss": loss, "xent_sum": terms.xent_sum, "z_sum": terms.z_sum}
    losses_agree(found, plain_losses(case), case, SETTINGS)
    planted(fault)
    with pytest.raises(AssertionError, match=f"{term}: off by"):
        losses_agree({term: found[term]}, plain_losses(case), case, SETTINGS)


def test_padding_that_counts_is_seen(logits_of):
    case = CASES["gpt3"]
    _, terms = shared(logits_of("gpt3", "nnx"), case.batch, SETTINGS)
    wrong = summed(exact_logits(case), case.batch.targets, case.batch.segment_ids, SETTINGS)
    with pytest.raises(AssertionError, match="total_weights: off by"):
        losses_agree({"total_weights": terms.weights}, wrong, case, SETTINGS)


def test_a_slip_that_both_sides_share_is_seen_here_and_not_between_them(monkeypatch, quickly):
    """A mask one place too wide, in `impl.math`: whoever holds one side against the other sees nothing."""
    case = CASES["llama3.1"]
    room = logits_room(case)
    wider = called(lambda before, distance, *rest: before(distance + 1, *rest))
    monkeypatch.setattr(impl.math.masks, "_reaches", wider(impl.math.masks._reaches))
    found = []
    for which in SIDES:
        with quickly():
            found.append(side(which).Trainer(case.config, SETTINGS, case.weights).logits(case.batch))
    agree(found[0], found[1], room)
    with pytest.raises(AssertionError, match="largest error"):
        agree(found[0], exact_logits(case), room)


def test_a_slip_in_the_losses_that_both_sides_share_is_seen(monkeypatch, logits_of):
    """The z-loss of the other sign: every train step would go down a slope that is not the loss's."""
    case, scores = CASES["llama3.1"], logits_of("llama3.1", "linen")
    expected = plain_losses(case)
    losses_agree({"loss": shared(scores, case.batch, SETTINGS)[0]}, expected, case, SETTINGS)
    negative = called(lambda before, logits, targets, z: before(logits, targets, -z))
    monkeypatch.setattr(impl.math.loss, "token_losses", negative(impl.math.loss.token_losses))
    with pytest.raises(AssertionError, match="loss: off by"):
        losses_agree({"loss": shared(scores, case.batch, SETTINGS)[0]}, expected, case, SETTINGS)
