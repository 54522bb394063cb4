"""Predicting further: rolls inside segments, masks of 0 and 1, losses and agreement, against walks in float64."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from impl.math.mtp import agreeing, ahead, further_loss, places_with_target, total_places
from impl.prediction import BLOCK
from impl.tiny import family
from impl.training.auxiliary import SownError
from impl.training.objective import Batch
from impl.training.prediction import predicted, unpredicted
from tests.impl.math import further_oracle
from tests.impl.math.values import EPS, draw, wide

SEGMENTS = np.array(
    [[1, 1, 1, 2, 2, 2, 2, 0], [3, 5, 5, 5, 5, 5, 0, 0], [1, 1, 2, 2, 1, 1, 1, 4], [0, 0, 7, 7, 7, 7, 7, 7]], np.int32
)
RANDOM = np.random.default_rng(4)
TOKENS, TARGETS = (RANDOM.integers(3, 11, SEGMENTS.shape).astype(np.int32) for _ in range(2))
# What follows inside a segment, but a few tokens do not count (a prompt), and ids are no weights.
COUNTED = np.where(np.roll(SEGMENTS, -1, 1) == SEGMENTS, SEGMENTS, 0) * (RANDOM.random(SEGMENTS.shape) < 0.8)
BATCH = Batch(TOKENS, TOKENS, SEGMENTS, TARGETS, COUNTED.astype(np.int32))


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 9])
def test_nothing_comes_from_another_segment(steps):
    found = np.asarray(ahead(jnp.asarray(TOKENS), jnp.asarray(SEGMENTS), steps))
    if steps:
        np.testing.assert_array_equal(found, further_oracle.ahead(TOKENS, SEGMENTS, steps))
    assert found.dtype == np.int32
    assert np.any(found) == (steps < 9)


def test_by_hand():
    row, segments = jnp.asarray([[5, 6, 7, 8, 9]]), jnp.asarray([[2, 2, 2, 4, 4]])
    assert ahead(row, segments, 1).tolist() == [[6, 7, 0, 9, 0]]
    assert ahead(row, segments, 2).tolist() == [[7, 0, 0, 0, 0]]
    places = places_with_target(jnp.asarray([[2, 2, 0, 4, 0]]), segments, 1)
    assert (places.dtype, places.tolist()) == (jnp.float32, [[1, 0, 0, 0, 0]])


def sown(logits, target):
    """What the block sows, given the logits of its layers."""
    inside, (losses, weights) = jnp.asarray(SEGMENTS), ([], [])
    for k, layer in enumerate(logits, start=1):
        places = places_with_target(BATCH.target_segments, inside, k)
        losses.append(further_loss(jnp.asarray(layer), ahead(jnp.asarray(TARGETS), inside, k), places))
        weights.append(jnp.sum(places))
    found = {(BLOCK, "losses", "0"): jnp.stack(losses), (BLOCK, "weights", "0"): jnp.stack(weights)}
    if target:
        places = places_with_target(BATCH.target_segments, inside, target)
        guesses = jnp.argmax(jnp.asarray(logits[target - 1]), axis=-1)
        found |= {(BLOCK, "mtp_preds", "0"): guesses, (BLOCK, "mtp_mask", "0"): places}
    return found


@pytest.mark.parametrize("target", [0, 1, 2])
def test_sums_are_those_of_a_walk_along_every_row(target):
    config = family("llama2", mtp_num_layers=2, mtp_eval_target_module=target, mtp_loss_scaling_factor=0.3)
    own, logits = draw(1, *SEGMENTS.shape, 11), [draw(seed, *SEGMENTS.shape, 11, spread=2.0) for seed in (2, 3)]
    # Half of the guesses are the model's own, so that some agree.
    for k, layer in enumerate(logits, start=1):
        np.put_along_axis(layer[::2], further_oracle.ahead(own.argmax(-1), SEGMENTS, k)[::2, :, None], 9.0, axis=-1)
    found = predicted(sown(logits, target), jnp.asarray(own), BATCH, config)
    loss, places, agree, judged = further_oracle.terms([wide(layer) for layer in logits], own, BATCH, 0.3, target)
    assert list(found) == list(unpredicted(config))
    # Some thirty cross entropies of about 3, each a few roundings of numbers up to 9.
    assert float(found["mtp_loss_sum"]) == pytest.approx(loss, rel=64 * EPS)
    assert float(found["mtp_weights"]) == places == float(total_places(BATCH.target_segments, SEGMENTS, 2))
    if target:
        assert (float(found["mtp_accepted"]), float(found["mtp_judged"])) == (agree, judged)
        assert 0 < agree < judged


def test_agreement_counts_places_alone():
    guesses, own = jnp.asarray([[1, 2, 3]]), jnp.asarray([[1, 2, 4]])
    assert float(agreeing(guesses, own, jnp.asarray([[0.0, 1.0, 1.0]]))) == 1.0


def test_what_was_not_sown_or_twice_is_an_error():
    config = family("llama2", mtp_num_layers=1, mtp_eval_target_module=1)
    own, whole = jnp.asarray(draw(1, *SEGMENTS.shape, 11)), sown([draw(2, *SEGMENTS.shape, 11)], 1)
    for name in ("losses", "weights", "mtp_preds", "mtp_mask"):
        lacking = {path: leaf for path, leaf in whole.items() if path[1] != name}
        with pytest.raises(SownError, match=f"mtp_block sowed {name} 0 times, expected once; nearest: "):
            predicted(lacking, own, BATCH, config)
    twice = whole | {(BLOCK, "losses", "1"): jnp.ones(1)}
    with pytest.raises(SownError, match="mtp_block sowed losses 2 times"):
        predicted(twice, own, BATCH, config)
    assert unpredicted(family("llama2")) == {}
