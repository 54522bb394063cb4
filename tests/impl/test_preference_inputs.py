"""Pairs from real text: common prefixes of many lengths, unequal completions, padding; the same everywhere."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from impl.inputs import text
from impl.preference_inputs import PREFERENCE_FIELDS, pairs

ROWS, LENGTH, STEPS = 6, 24, 4


@pytest.fixture(scope="module")
def made():
    return pairs(rows=ROWS, length=LENGTH, steps=STEPS, seed=7)


def halves(made):
    """(row, chosen tokens, rejected tokens) of every pair, without padding."""
    for step in range(STEPS):
        for row in range(ROWS):
            yield (
                row,
                *[
                    made[f"step{step}/{half}"][row][made[f"step{step}/{half}_segments"][row] == 1]
                    for half in ("chosen", "rejected")
                ],
            )


def common(chosen, rejected):
    short = min(len(chosen), len(rejected))
    apart = np.flatnonzero(chosen[:short] != rejected[:short])
    return int(apart[0]) if apart.size else short


def test_every_field_of_every_step_is_int32_and_of_the_shape_asked_for(made):
    assert list(made) == [f"step{step}/{field}" for step in range(STEPS) for field in PREFERENCE_FIELDS]
    assert {(value.shape, value.dtype) for value in made.values()} == {((ROWS, LENGTH), np.dtype(np.int32))}


def test_halves_begin_alike_part_within_both_and_go_on_unequally_long(made):
    prefixes = set()
    for row, chosen, rejected in halves(made):
        prefix = common(chosen, rejected)
        prefixes.add(prefix)
        assert 2 <= prefix <= LENGTH // 2
        assert prefix < min(len(chosen), len(rejected))
        assert (len(chosen) > len(rejected)) == bool(row % 2)
        assert len(chosen) != len(rejected)
        assert max(len(chosen), len(rejected)) < LENGTH
    assert len(prefixes) > 5


def test_the_chosen_half_is_the_text_and_the_rejected_one_goes_on_elsewhere(made):
    for _, chosen, rejected in halves(made):
        prefix = common(chosen, rejected)
        assert bytes(chosen.tolist()) in text()
        assert bytes(rejected[:prefix].tolist()) in text()
        assert bytes(rejected[prefix:].tolist()) in text()


def test_padding_is_zeros_at_the_end_and_positions_count(made):
    for step in range(STEPS):
        for half in ("chosen", "rejected"):
            segments, positions, tokens = (made[f"step{step}/{half}{end}"] for end in ("_segments", "_positions", ""))
            filled = segments.sum(axis=1)
            for row in range(ROWS):
                assert segments[row].tolist() == [1] * filled[row] + [0] * (LENGTH - filled[row])
                assert positions[row].tolist() == [*range(filled[row]), *[0] * (LENGTH - filled[row])]
                assert not tokens[row, filled[row] :].any()


def test_the_same_everywhere_and_another_with_another_seed(made):
    digest = hashlib.sha256(b"".join(value.tobytes() for value in made.values())).hexdigest()
    assert digest[:8] == "01a194ec"
    again, other = (pairs(rows=ROWS, length=LENGTH, steps=STEPS, seed=seed) for seed in (7, 8))
    assert all(np.array_equal(again[name], value) for name, value in made.items())
    assert not any(np.array_equal(other[name], value) for name, value in made.items())


def test_the_shortest_rows_are_cut_and_shorter_ones_are_refused():
    for seed in range(20):
        cut = pairs(rows=4, length=8, steps=1, seed=seed)
        assert np.all(cut["step0/chosen_segments"].sum(axis=1) != cut["step0/rejected_segments"].sum(axis=1))
    with pytest.raises(ValueError, match=r"length=7: .* needs 8 tokens"):
        pairs(rows=3, length=7, steps=1, seed=7)
