"""Masks against loops over every pair of positions."""

from __future__ import annotations

import numpy as np
import pytest

from impl.math.masks import cached_mask, training_mask
from tests.impl.math import oracles

SEGMENTS = np.array([[1, 1, 2, 2, 2, 2, 0], [4, 4, 4, 9, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1]], np.int32)
WINDOWS = [-1, 0, 1, 2, 3, 6, 7, 50]


@pytest.mark.parametrize("window", WINDOWS)
def test_training_mask_matches_the_oracle(window):
    mask = np.asarray(training_mask(SEGMENTS, window=window))
    assert mask.dtype == bool
    assert np.array_equal(mask, oracles.training_mask(SEGMENTS, window))


def test_training_mask_is_global_unless_told_otherwise():
    assert np.array_equal(training_mask(SEGMENTS), oracles.training_mask(SEGMENTS, -1))


def test_padding_attends_to_itself_and_a_window_of_zero_to_nothing():
    mask = np.asarray(training_mask(SEGMENTS))
    assert all(mask[b, t, t] for b, t in np.ndindex(*SEGMENTS.shape))
    assert mask[1, 6, 4]
    assert not mask[1, 4, 3]
    assert not np.asarray(training_mask(SEGMENTS, window=0)).any()


@pytest.mark.parametrize("window", WINDOWS)
def test_cached_mask_matches_the_oracle_with_slots_in_any_order(window):
    rng = np.random.default_rng(17)
    queries = rng.integers(0, 5000, (3, 2)).astype(np.int32)
    keys = (queries[:, :1] + rng.integers(-9, 6, (3, 11))).astype(np.int32)
    queries[:, 1] = queries[:, 0] + 3
    valid = rng.random((3, 11)) < 0.7
    mask = np.asarray(cached_mask(queries, keys, valid, window=window))
    assert mask.dtype == bool
    assert np.array_equal(mask, oracles.cached_mask(queries, keys, valid, window))
    if window < 0:
        assert np.array_equal(mask, cached_mask(queries, keys, valid))
        assert 0 < mask.sum() < mask.size


@pytest.mark.parametrize("window", [-1, 1, 4])
def test_a_cache_that_holds_one_whole_row_masks_like_training(window):
    positions = np.arange(9, dtype=np.int32)[None] + 4321
    segment = np.full((1, 9), 6, np.int32)
    mask = cached_mask(positions, positions, np.ones((1, 9), bool), window=window)
    assert np.array_equal(mask, training_mask(segment, window=window))
