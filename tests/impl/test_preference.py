"""Losses of pairs from log-probabilities, what is refused, and who holds the reference; nothing here is compiled."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from impl.config import ConfigError
from impl.linen import dpo as linen_dpo
from impl.linen.state import abstract_state
from impl.linen.transformer import Transformer
from impl.math.preference import Pairs
from impl.nnx.dpo import with_reference
from impl.nnx.state import init_state_fn
from impl.nnx.transformer import Transformer as TransformerNNX
from impl.preference_inputs import PREFERENCE_FIELDS, pairs
from impl.preference_programs import dpo, with_step_0
from impl.requested import preference_of
from impl.tiny import family
from impl.training.checks import BatchError
from impl.training.optimizers import optimizer
from impl.training.preference import (
    PreferenceBatch,
    check_pairs,
    pair_masks,
    preference_metrics,
    preference_objective,
    stacked,
)
from impl.training.settings import PreferenceSettings, TrainSettings
from tests.impl.math import preference_oracle as oracle

CONFIG, WHOLE = family("llama2"), TrainSettings()
ON = PreferenceSettings(enable=True, beta=0.7, label_smoothing=0.2)
MADE = pairs(rows=4, length=CONFIG.max_target_length, steps=1, seed=3)
BATCH = PreferenceBatch(*[MADE[f"step0/{field}"] for field in PREFERENCE_FIELDS])


def logps(seed):
    random = np.random.default_rng(seed)
    return Pairs(*[(random.standard_normal(4) * 3 - 20).astype(np.float32) for _ in range(2)])


def expected(preference, beta):
    """Margins and losses of each pair, in float64."""
    ours, theirs = (Pairs(*[half.astype(np.float64) for half in logps(seed)]) for seed in (1, 2))
    margins = preference.beta * ((ours.chosen - theirs.chosen) - (ours.rejected - theirs.rejected))
    return margins, np.array([oracle.loss(margin * beta, preference.label_smoothing) for margin in margins])


@pytest.mark.parametrize(("formula", "beta"), [("paper", 1.0), ("maxtext", 0.7)])
def test_the_objective_is_the_mean_over_pairs_and_under_accumulation_their_sum(formula, beta):
    preference = replace(ON, formula=formula)
    margins, losses = expected(preference, beta)
    masks = pair_masks(BATCH, preference)
    value, terms = preference_objective(logps(1), logps(2), masks, WHOLE, preference)
    total, again = preference_objective(
        logps(1), logps(2), masks, replace(WHOLE, gradient_accumulation_steps=2), preference
    )
    assert float(value) == pytest.approx(losses.mean(), rel=1e-5)
    assert float(total) == pytest.approx(losses.sum(), rel=1e-5)
    assert [float(term) for term in terms[:-1]] == [float(term) for term in again[:-1]]
    assert float(terms.pairs) == 4.0
    assert float(terms.ranked) == np.sum(margins > 0)
    assert float(terms.margin_sum) == pytest.approx(margins.sum(), rel=1e-5)
    reported = preference_metrics(terms, {}, WHOLE)
    assert float(reported["learning/loss"]) == float(value)
    assert float(reported["learning/reward_accuracy"]) == np.mean(margins > 0)


def test_a_pair_that_nobody_can_tell_apart_does_not_count():
    empty, same = BATCH.chosen_segments.copy(), BATCH.rejected.copy()
    empty[0], same[1] = 0, BATCH.chosen[1]
    other = BATCH._replace(
        chosen_segments=empty,
        rejected_segments=np.where([[True], [False], [False], [False]], 0, BATCH.rejected_segments),
        rejected=same,
    )
    other.rejected_segments[1] = other.chosen_segments[1]
    value, terms = preference_objective(logps(1), logps(2), pair_masks(other, ON), WHOLE, ON)
    assert float(terms.pairs) == 2.0
    assert float(value) == pytest.approx(expected(ON, 1.0)[1][2:].mean(), rel=1e-5)
    nothing = Pairs(*[np.zeros((4, 23), bool)] * 2)
    assert float(preference_objective(logps(1), logps(2), nothing, WHOLE, ON)[0]) == 0.0


def test_maxtext_counts_only_where_both_halves_have_a_token():
    own, cut = (pair_masks(BATCH, replace(ON, formula=formula)) for formula in ("paper", "maxtext"))
    np.testing.assert_array_equal(cut.chosen, np.asarray(own.chosen) & np.asarray(own.rejected))
    np.testing.assert_array_equal(cut.rejected, cut.chosen)
    assert 0 < np.sum(cut.chosen) < min(np.sum(own.chosen), np.sum(own.rejected))


def test_one_forward_pass_takes_chosen_rows_then_rejected_ones():
    rows = stacked(BATCH)
    for found, half in zip(rows, PREFERENCE_FIELDS[:3], strict=True):
        np.testing.assert_array_equal(found[:4], getattr(BATCH, half))
    np.testing.assert_array_equal(rows[0][4:], BATCH.rejected)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"chosen_segments": BATCH.chosen_segments * 2}, "chosen_segments hold 2"),
        ({"rejected": BATCH.rejected[1:]}, "rejected have shape"),
        ({"rejected": BATCH.rejected + 300}, "rejected range from"),
        ({"chosen": BATCH.chosen.astype(np.float32)}, "chosen are float32"),
    ],
)
def test_batches_that_are_no_pairs_are_refused(change, words):
    check_pairs(BATCH, CONFIG, WHOLE)
    with pytest.raises(BatchError, match=words):
        check_pairs(BATCH._replace(**change), CONFIG, WHOLE)


def test_pairs_that_do_not_divide_are_refused():
    with pytest.raises(ConfigError, match="4 rows do not divide into gradient_accumulation_steps=3"):
        check_pairs(BATCH, CONFIG, replace(WHOLE, gradient_accumulation_steps=3))


@pytest.mark.parametrize(
    ("config", "train", "words"),
    [
        (family("llama2", mtp_num_layers=1), WHOLE, "mtp_num_layers=1: pairs teach no further tokens"),
        (family("llama2", quantization="fp8"), WHOLE, "quantization='fp8': pairs are learnt without 8-bit products"),
        (CONFIG, replace(WHOLE, num_vocab_tiling=4), "num_vocab_tiling=4: the loss of pairs is not made in tiles"),
    ],
)
def test_what_pairs_are_not_learnt_with_is_refused(config, train, words):
    with pytest.raises(ConfigError, match=words):
        check_pairs(BATCH, config, train)


@pytest.mark.parametrize(
    ("change", "words"), [({"beta": 0.0}, "beta=0.0"), ({"label_smoothing": 0.5}, "0.5"), ({"formula": "x"}, "'x'")]
)
def test_settings_that_make_no_sense_are_refused(change, words):
    with pytest.raises(ConfigError, match=words):
        replace(ON, **change)


def test_preference_optimisation_is_off_unless_asked_for():
    assert not preference_of({}).enable
    with pytest.raises(ConfigError, match="enable=True"):
        dpo("linen", {"config": CONFIG}, {}, {})


class Recorder:
    """A trainer whose weights are one number."""

    def __init__(self, weight):
        self.weight, self.referred = np.float32(weight), []

    def tree(self):
        return {"params": {"weight": np.full((2,), self.weight)}}

    def saved_weights(self, tree):
        return {"weight": float(tree["params"]["weight"][0])}

    def refer(self, weights):
        self.referred.append(weights["weight"])


def test_the_reference_is_step_0s_policy_whoever_asks(tmp_path):
    first, second = Recorder(0.25), Recorder(0.75)
    with_step_0(first, tmp_path)
    with_step_0(second, tmp_path)
    assert (first.referred, second.referred) == ([0.25], [0.25])


def test_going_on_without_step_0_is_refused(tmp_path):
    (tmp_path / "4").mkdir()
    with pytest.raises(ConfigError, match="a checkpoint of step 4 but none of step 0"):
        with_step_0(Recorder(0.5), tmp_path)


def test_linens_optimizer_and_gradients_know_params_alone():
    plain = nn.unbox(abstract_state(Transformer(CONFIG), optimizer(WHOLE), CONFIG))
    state = jax.eval_shape(lambda state: linen_dpo.with_reference(state, state.params), plain)
    assert jax.tree.structure(state.opt_state) == jax.tree.structure(plain.opt_state)
    assert jax.tree.structure(state.reference_params) == jax.tree.structure(state.params)
    moved = jax.eval_shape(lambda state: state.apply_gradients(grads=state.params), state)
    assert jax.tree.structure(moved) == jax.tree.structure(state)


def test_nnx_shares_no_variable_between_policy_and_reference_and_optimizes_the_policy_alone():
    plain = init_state_fn(TransformerNNX, optimizer(WHOLE), CONFIG, 0)
    state = nnx.eval_shape(lambda: with_reference(plain()))
    ours, theirs = (set(map(id, jax.tree.leaves(nnx.state(model), is_leaf=is_variable))) for model in models(state))
    assert len(ours) == len(theirs) == 30
    assert not ours & theirs
    paths = {path[0] for path, _ in nnx.to_flat_state(nnx.split(state)[1])}
    assert paths == {"model", "optimizer", "reference_model"}
    assert not any("reference_model" in map(str, path) for path, _ in nnx.to_flat_state(nnx.state(state.optimizer)))


def test_the_reference_drops_nothing_while_the_policy_may():
    config = family("llama2", dropout_rate=0.3)
    plain = init_state_fn(TransformerNNX, optimizer(WHOLE), config, 0)
    ours, theirs = models(nnx.eval_shape(lambda: with_reference(plain())))
    for model, quiet in ((ours, False), (theirs, True)):
        found = {part.deterministic for _, part in nnx.iter_graph(model) if isinstance(part, nnx.Dropout)}
        assert found == {quiet}


def models(state):
    return state.model, state.reference_model


def is_variable(leaf):
    return isinstance(leaf, nnx.Variable)
