"""Pairs learnt by a mixture of experts: its load-balance loss and its loads, held against the plain float64 model.

One side is enough: the scenario dpo_experts proves the other's step to be the same function.
"""

from __future__ import annotations

import numpy as np
import pytest

from impl.params import draw
from impl.preference_inputs import PREFERENCE_FIELDS
from impl.preference_programs import REFERENCE, inputs
from impl.reference.plain import decoder, experts
from impl.sides import side
from impl.tiny import family
from impl.training.preference import PreferenceBatch
from impl.training.settings import PreferenceSettings, TrainSettings
from tests.impl.math import preference_oracle as oracle

CONFIG = family("deepseek", num_decoder_layers=1, first_num_dense_layers=0, vocab_size=131, max_target_length=12)
ON = PreferenceSettings(enable=True, beta=0.7, label_smoothing=0.2)
RATE = 0.5
SETTINGS = TrainSettings(
    opt_type="sgd",
    schedule="scalar",
    learning_rate=RATE,
    gradient_clipping_threshold=0.0,
    gradient_accumulation_steps=2,
)
ROWS = 4
MADE = inputs({"config": CONFIG, "rows": ROWS, "unweighted": (1, 4)}, 5)
BATCH = PreferenceBatch(*[MADE[f"step0/{field}"] for field in PREFERENCE_FIELDS])
WEIGHTS = draw(CONFIG, 5)
OTHER = {name.removeprefix(REFERENCE): value for name, value in MADE.items() if name.startswith(REFERENCE)}
MOE = "decoder/moe_layers/0/DeepSeekMoeBlock_0/MoeBlock_0"
GATE = f"{MOE}/gate/kernel"


def completions(weights):
    """Log-probabilities of chosen and of rejected completions [B], and the load-balance loss of all rows."""
    rows = [np.concatenate(halves) for halves in zip(BATCH[:3], BATCH[3:], strict=True)]
    made = decoder.forward(CONFIG, weights, *rows)
    halves, segments = (BATCH.chosen, BATCH.rejected), (BATCH.chosen_segments, BATCH.rejected_segments)
    masks = oracle.masks(halves, segments)
    scores = made.logits[:ROWS], made.logits[ROWS:]
    return [oracle.logps(*each) for each in zip(scores, halves, masks, strict=True)], made.balance


def losses(weights, reference):
    """The mean over the three pairs that count, and the policy's load-balance loss."""
    (chosen, rejected), balance = completions(weights)
    margins = ON.beta * ((chosen - reference[0]) - (rejected - reference[1]))
    counts = [row for row in range(ROWS) if row != 1]
    return np.mean([oracle.loss(margins[row], ON.label_smoothing) for row in counts]), balance


@pytest.fixture(scope="module")
def expected():
    """Losses by name, how often each expert is chosen by the policy, and a slope along one direction of the gate."""
    reference, _ = completions(OTHER)
    loads, honest = np.zeros(CONFIG.num_experts), experts.choice

    def counted(*told):
        made = honest(*told)
        loads[list(made.weights)] += 1
        return made

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(experts, "choice", counted)
        pairs, balance = losses(WEIGHTS, reference)
    direction = np.random.default_rng(1).standard_normal(WEIGHTS[GATE].shape)
    step = 1e-5
    moved = (sum(losses({**WEIGHTS, GATE: WEIGHTS[GATE] + sign * step * direction}, reference)) for sign in (1, -1))
    above, below = moved
    found = {"dpo_loss": pairs, "moe_lb_loss": balance, "loss": pairs + balance}
    return found, loads, direction, (above - below) / (2 * step)


def test_the_policys_experts_alone_are_balanced_and_microbatches_do_not_shrink_it(expected):
    found, loads, direction, slope = expected
    trainer = side("nnx").PreferenceTrainer(CONFIG, SETTINGS, ON, WEIGHTS, 0)
    trainer.refer(OTHER)
    metrics = trainer.step(BATCH)
    for key, value in found.items():
        assert float(metrics[f"learning/{key}"]) == pytest.approx(value, rel=2e-5), key
    assert float(metrics["learning/total_weights"]) == 3.0
    after = trainer.weights()
    moved = after[f"{MOE}/gate/bias"] - WEIGHTS[f"{MOE}/gate/bias"]
    assert loads.sum() == 2 * ROWS * 12 * CONFIG.num_experts_per_tok
    np.testing.assert_allclose(moved, CONFIG.routed_bias_update_rate * np.sign(loads.mean() - loads), atol=1e-7)
    gradient = (WEIGHTS[GATE] - after[GATE]).astype(np.float64) / RATE
    assert np.sum(gradient * direction) == pytest.approx(slope, rel=1e-3)
