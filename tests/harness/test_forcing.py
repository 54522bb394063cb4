"""A forced run tells what diverges by itself from what only follows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from harness.forcing import forced
from harness.report.causes import cause_text
from tests.harness.forced_pair import LAYERS, LinenPart, NnxPart, pair_of
from tests.harness.tiny_pairs import case_of


def causes_of(*wrong, program="grad", **how):
    pair = pair_of(*wrong, **how)
    return forced(pair, case_of(pair, program))


def told(result):
    return [(cause.module, cause.ways[0], cause.seen) for cause in result.causes]


def test_a_forward_fault_is_the_only_cause_and_the_rest_follows():
    result = causes_of(("embed", "forward"))
    assert told(result) == [("embed", "output", "")]
    assert result.certain == "embed"
    assert (result.note, result.unpaired) == ("", ())
    assert result.consequences == 2 + 3 * LAYERS  # the model, its head, and every layer with its two parts
    assert "origin: embed (its output differs by " in cause_text(result)
    assert f"; {result.consequences} other modules differ only by what they are given" in cause_text(result)


def test_a_backward_fault_is_found_where_every_gradient_before_it_differs_too():
    result = causes_of(("head", "backward"))
    assert told(result) == [("head", "backward", "")]
    assert result.consequences == 1 + 3 * LAYERS


def test_a_gradient_that_only_a_weight_sees_is_its_modules():
    result = causes_of(("embed", "kernel"))
    assert told(result) == [("embed", "leaf", "gradients/embed/kernel")]
    assert "gradients/embed/kernel differs by" in cause_text(result)


def test_two_independent_faults_are_both_found_in_forward_order():
    result = causes_of(("embed", "backward"), ("head", "forward"))
    assert told(result) == [("head", "output", ""), ("embed", "leaf", "gradients/embed/kernel")]
    assert result.certain == ""


def test_a_fault_of_the_parent_between_two_children_is_the_parents():
    result = causes_of(("layers", "between"))
    assert told(result) == [("layers/0", "handing on", "layers/0/down")]
    assert result.causes[0].others == tuple(f"layers/{i}" for i in range(1, LAYERS))
    assert "what it hands to layers/0/down differs" in cause_text(result)


@pytest.mark.parametrize("scanned", [True, False])
def test_layers_are_told_apart_also_where_one_side_scans_them(scanned):
    result = causes_of(("down", "forward"), scanned=scanned)
    assert told(result) == [("layers/0/down", "output", "")]
    assert result.causes[0].others == tuple(f"layers/{i}/down" for i in range(1, LAYERS))


def test_a_loss_that_is_scaled_is_no_modules_fault():
    assert told(causes_of(scale=1.5)) == [("loss", "handing back", "model")]


def test_a_clean_pair_has_no_cause():
    result = causes_of()
    assert (result.causes, result.note) == ((), "the sides agree when they are watched")


def test_sides_that_both_draw_with_keys_of_their_own_are_not_laid_to_each_other(monkeypatch):
    def drops(part, seed):
        original = part.__call__

        def dropping(self, x):
            kept = jax.random.bernoulli(jax.random.key(seed), 0.75, x.shape)
            return original(self, jnp.where(kept, x, 0.0))

        monkeypatch.setattr(part, "__call__", dropping)

    drops(NnxPart, 3)
    assert causes_of(("head", "forward"), program="forward").causes  # one side draws, the other does not: a finding
    drops(LinenPart, 5)
    assert "both sides draw with keys of their own" in causes_of(("head", "forward"), program="forward").note
