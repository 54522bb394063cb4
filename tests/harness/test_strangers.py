"""Pairs as strangers bring them: what Flax itself does otherwise is noise, and a slip beside it is none."""

from dataclasses import replace

import numpy as np
import pytest

from harness.judge import NotHeld
from harness.oracle import with_noise
from harness.placing import with_place
from harness.verdict import Ending, Rung
from harness.verify import judged
from tests.harness.pairs import bridging, encoder, noisy, recurrent
from tests.harness.pairs.run import case_of, results


def verdict(pair, program):
    """The line without golden, proof and place."""
    scenario = pair.scenarios[program]
    case = replace(case_of(pair, program), draws=scenario.draws, precision=pair.precision({}))
    return with_noise(pair, case, *judged(pair, case, lambda *runs: NotHeld(because="a test needs none")))


def test_attention_of_both_flaxes_differs_by_noise():
    found = verdict(encoder.twin(encoder.NnxBlock), "forward")
    assert found.rung is Rung.WITHIN_NOISE, found.why_not_higher


@pytest.mark.parametrize("kind", [encoder.Shifted, encoder.Narrow], ids=lambda kind: kind.__name__)
def test_a_slip_beside_the_noise_is_none(kind):
    assert verdict(encoder.twin(kind), "forward").rung is Rung.DIVERGED


def test_a_dropout_that_is_forgotten_shows_where_both_sides_draw_alike():
    sound, pair = encoder.twin(encoder.NnxBlock), encoder.twin(encoder.OneDropout)
    assert verdict(sound, "grad_dropout").rung in (Rung.BITWISE, Rung.WITHIN_NOISE)
    assert verdict(pair, "structure").rung is Rung.BITWISE
    found = verdict(pair, "grad_dropout")
    assert found.rung is Rung.DIVERGED
    assert "the draws of both sides can be paired" in found.first.name


def test_noise_is_drawn_with_the_rulers_keys():
    found = verdict(noisy.twin(noisy.NnxVae), "grad")
    assert found.rung is Rung.BITWISE, found.why_not_higher


@pytest.mark.parametrize(
    ("kind", "program"), [(noisy.Frozen, "train"), (noisy.Halved, "forward"), (noisy.Quiet, "forward")]
)
def test_noise_that_is_another_is_caught(kind, program):
    assert verdict(noisy.twin(kind), program).rung is Rung.DIVERGED


@pytest.mark.parametrize("program", ["structure", "forward", "grad", "train", "state", "taps_train"])
def test_a_partly_migrated_module_that_says_so_is_compared(program):
    found = verdict(bridging.twin(bridging.Wholly), program)
    assert (found.ending, found.rung) == (None, Rung.BITWISE), found.detail or found.why_not_higher


def test_a_partly_migrated_module_may_be_wrong_and_must_be_declared():
    assert verdict(bridging.twin(bridging.Otherwise), "forward").rung is Rung.DIVERGED
    found = verdict(bridging.twin(bridging.Wholly, bridged=False), "forward")
    assert found.ending is Ending.REFUSED
    assert "side linen declares linen, but forward traced linen and nnx" in found.detail


@pytest.mark.parametrize("program", ["grad", "taps"])
def test_gates_that_are_fused_on_one_side(program):
    found = verdict(recurrent.SOUND, program)
    assert found.rung in (Rung.BITWISE, Rung.WITHIN_NOISE), found.why_not_higher


def test_gradients_and_slots_come_back_under_linens_names():
    left, right = results(recurrent.SOUND, "train")
    name = f"step 1/slots/0/mu/{recurrent.CELL}/hf/kernel"
    assert left["updates"][name].shape == right["updates"][name].shape == (recurrent.HIDDEN, recurrent.HIDDEN)
    assert list(left["updates"]) == list(right["updates"])
    assert np.any(right["updates"][name])


def test_gates_in_another_order_diverge():
    assert verdict(recurrent.SWAPPED, "forward").rung is Rung.DIVERGED


def test_a_slip_is_told_from_the_noise_around_it():
    """The forced run is made in float64, where both kinds of attention agree and only the slip is left."""
    pair = encoder.twin(encoder.Shifted)
    case = case_of(pair, "forward")
    found, runs = judged(pair, case, lambda *runs: NotHeld(because="a test needs none"))
    found = with_place(pair, case, with_noise(pair, case, found, runs), runs)
    assert found.forced.certain == "model"
    assert any(cause.rounding for cause in found.forced.causes)
