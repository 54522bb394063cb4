"""Every loss term of both sides against the plain model's: from the objective, the gradients and the train step."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from impl.reference.plain import objective
from impl.reference.plain.losses import summed
from impl.sides import side
from impl.training.objective import metrics, named_terms
from impl.training.objective import objective as shared
from impl.training.settings import TrainSettings
from tests.impl.plain.cases import CASES, SETTINGS, SIDES, SLOPES, case
from tests.impl.plain.gradients import gradient_room, slope
from tests.impl.plain.rulers import ROUNDING, exact_logits, logits_room, losses_agree

SUMS = {"xent_sum": "xent_sum", "z_sum": "z_sum", "weights": "total_weights"}
"""A side's name of a sum -> the plain model's."""

REPORTED = {"loss", "lm_loss", "perplexity", "z_loss", "total_weights"}
BALANCE, LOADS = "moe_lb_loss", "moe_expert_loads"

STEPPED = case("llama2")
ACCUMULATED = TrainSettings(
    z_loss_multiplier=2e-2,
    opt_type="sgd",
    schedule="constant",
    learning_rate=1.0,
    gradient_clipping_threshold=0.0,
    gradient_accumulation_steps=2,
)


def terms_of(reported):
    """What a step reports that is no norm, by the plain model's names."""
    return {key.removeprefix("learning/"): value for key, value in reported.items() if "norm" not in key}


@pytest.mark.parametrize("which", SIDES)
@pytest.mark.parametrize("name", CASES)
def test_the_objective_of_a_sides_logits_is_the_plain_models(name, which, logits_of):
    made = CASES[name].batch
    expected = summed(exact_logits(CASES[name]), made.targets, made.target_segments, SETTINGS)
    loss, terms = shared(logits_of(name, which), made, SETTINGS)
    found = {"loss": loss, **{SUMS[key]: value for key, value in named_terms(terms).items()}}
    losses_agree(found, expected, CASES[name], SETTINGS)


@pytest.mark.parametrize("which", SIDES)
@pytest.mark.parametrize("name", SLOPES)
def test_the_terms_beside_a_gradient_and_their_report_are_the_plain_models(name, which, gradients_of):
    expected = objective(CASES[name].config, SETTINGS, CASES[name].weights, CASES[name].batch._asdict())
    terms = gradients_of(name, which)[1]
    named = {key: value for key, value in named_terms(terms).items() if key != LOADS}
    found = {SUMS.get(key, key): value for key, value in named.items()}
    reported = terms_of(metrics(jax.tree.map(jnp.asarray, terms), {}, SETTINGS))
    assert set(reported) == REPORTED | ({BALANCE} & set(named))
    assert (expected.moe_lb_loss > 0.01) is (BALANCE in named)
    losses_agree({**found, **reported}, expected, CASES[name], SETTINGS)
    assert expected.z_loss > 0.1


@pytest.fixture(scope="module")
def stepped(quickly):
    """Side -> metrics of one accumulated step, and how far every weight moved: at rate 1, its gradient."""
    results = {}
    for which in SIDES:
        trainer = side(which).Trainer(STEPPED.config, ACCUMULATED, STEPPED.weights)
        with quickly():
            reported = trainer.step(STEPPED.batch)
        after = trainer.weights()
        moved = {name: value.astype(np.float64) - after[name] for name, value in STEPPED.weights.items()}
        results[which] = reported, moved
    return results


@pytest.mark.parametrize("which", SIDES)
def test_a_step_over_microbatches_reports_the_plain_models_terms(which, stepped):
    expected = objective(STEPPED.config, ACCUMULATED, STEPPED.weights, STEPPED.batch._asdict())
    terms = terms_of(stepped[which][0])
    assert set(terms) == REPORTED
    losses_agree(terms, expected, STEPPED, ACCUMULATED)


@pytest.mark.parametrize("which", SIDES)
def test_a_step_over_microbatches_goes_down_the_plain_models_slope(which, stepped):
    reported, moved = stepped[which]
    size = float(np.sqrt(sum(np.sum(value**2) for value in moved.values())))
    found = slope(STEPPED, ACCUMULATED, {name: value / size for name, value in moved.items()})
    # Subtracting a gradient rounds the weight: by half a spacing of it, and every weight in another direction.
    rounding = ROUNDING * max(float(np.abs(value).max()) for value in STEPPED.weights.values())
    room = gradient_room(STEPPED, size) + rounding
    assert abs(found - size) <= room
    assert abs(found - float(reported["learning/raw_grad_norm"])) <= room


def test_padding_alone_has_loss_zero_on_both():
    made, scores = CASES["llama2"].batch, exact_logits(CASES["llama2"])
    nothing = np.zeros_like(made.target_segments)
    for settings in (SETTINGS, replace(SETTINGS, gradient_accumulation_steps=2)):
        expected = summed(scores, made.targets, nothing, settings)
        _, terms = shared(scores.astype(np.float32), made._replace(target_segments=nothing), settings)
        found = terms_of(metrics(jax.tree.map(jnp.asarray, terms), {}, settings))
        assert {name: float(value) for name, value in found.items()} == {
            **dict.fromkeys(REPORTED, 0.0),
            "perplexity": 1.0,
        }
        assert [getattr(expected, name) for name in REPORTED] == [float(found[name]) for name in REPORTED]
        assert expected.moe_lb_loss == 0.0


def test_the_room_of_a_term_is_narrow():
    """A thousandth of a term is far outside, for every term but the number of tokens, which has none."""
    name = "llama2"
    made = CASES[name].batch
    expected = summed(exact_logits(CASES[name]), made.targets, made.target_segments, SETTINGS)
    assert logits_room(CASES[name]) > 0.0
    for term in ("xent_sum", "z_sum", "total_weights", "loss", "lm_loss", "perplexity", "z_loss"):
        with pytest.raises(AssertionError, match=f"{term}: off by"):
            losses_agree({term: getattr(expected, term) * 1.001}, expected, CASES[name], SETTINGS)
