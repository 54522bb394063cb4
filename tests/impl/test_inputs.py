"""Batches from real text: segments, padding, positions, targets; the same everywhere; refused if the text is not."""

from __future__ import annotations

import codecs
import hashlib
import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest

from impl import inputs
from impl.inputs import FIELDS, TextError, batches, prompts, text

ROWS, LENGTH, STEPS, OFFSET = 5, 24, 3, 3000
DIGEST = "b90812c9"


@pytest.fixture(scope="module")
def made():
    return batches(rows=ROWS, length=LENGTH, steps=STEPS, seed=7, offset=OFFSET)


def rows(made):
    """Every row of every step: (its number in the batch, its fields)."""
    for step in range(STEPS):
        for row in range(ROWS):
            yield row, {field: made[f"step{step}/{field}"][row] for field in FIELDS}


def segments(fields):
    """(start, end) of each segment of a row."""
    ids = fields["segment_ids"]
    return [(int(np.argmax(ids == one)), int(np.sum(ids == one))) for one in range(1, ids.max() + 1)]


def test_every_field_of_every_step_is_int32_and_of_the_shape_asked_for(made):
    assert list(made) == [f"step{step}/{field}" for step in range(STEPS) for field in FIELDS]
    assert {(value.shape, value.dtype) for value in made.values()} == {((ROWS, LENGTH), np.dtype(np.int32))}


def test_the_shortest_rows_are_cut_and_shorter_ones_are_refused():
    for seed in range(20):
        assert batches(rows=3, length=6, steps=1, seed=seed)["step0/segment_ids"].max(axis=1).min() >= 2
    with pytest.raises(ValueError, match=r"length=5: .* at least 6 tokens"):
        batches(rows=3, length=5, steps=1, seed=7)


def test_rows_are_two_or_three_segments_in_order_and_then_padding(made):
    counts = set()
    for _, fields in rows(made):
        ids = fields["segment_ids"]
        filled = int(np.count_nonzero(ids))
        assert LENGTH - LENGTH // 4 < filled < LENGTH
        assert np.all(ids[filled:] == 0)
        assert np.all(np.diff(ids[:filled]) >= 0)
        assert set(ids[:filled].tolist()) == set(range(1, ids.max() + 1))
        counts.add(int(ids.max()))
        for field in FIELDS:
            assert np.all(fields[field][filled:] == 0), field
    assert counts == {2, 3}


def test_segments_are_cut_from_the_text_at_different_places(made):
    pieces = [
        bytes(fields["tokens"][at : at + size].tolist()) for _, fields in rows(made) for at, size in segments(fields)
    ]
    assert all(piece in text() for piece in pieces)
    long = [piece for piece in pieces if len(piece) > 3]
    assert len(set(long)) == len(long) > 20


def test_positions_restart_in_each_segment_from_the_offset_in_every_second_row(made):
    for row, fields in rows(made):
        for at, size in segments(fields):
            begin = OFFSET if row % 2 else 0
            assert fields["positions"][at : at + size].tolist() == list(range(begin, begin + size))


def test_targets_are_the_next_tokens_of_the_same_segment_and_its_last_has_no_weight(made):
    for _, fields in rows(made):
        weighted = np.zeros(LENGTH, bool)
        for at, size in segments(fields):
            np.testing.assert_array_equal(fields["targets"][at : at + size - 1], fields["tokens"][at + 1 : at + size])
            weighted[at : at + size - 1] = True
        np.testing.assert_array_equal(fields["target_segments"], np.where(weighted, fields["segment_ids"], 0))
        assert np.all(fields["targets"][~weighted] == 0)


def test_rows_weigh_differently_and_steps_differ(made):
    weights = [np.count_nonzero(made[f"step{step}/target_segments"], axis=1) for step in range(STEPS)]
    assert all(len(set(row.tolist())) > 1 for row in weights)
    assert len({made[f"step{step}/tokens"].tobytes() for step in range(STEPS)}) == STEPS


def test_batches_depend_on_their_arguments_alone(made):
    again = batches(rows=ROWS, length=LENGTH, steps=STEPS, seed=7, offset=OFFSET)
    shorter = batches(rows=ROWS, length=LENGTH, steps=1, seed=7, offset=OFFSET)
    near, other = (batches(rows=ROWS, length=LENGTH, steps=STEPS, seed=seed) for seed in (7, 8))
    for name, value in made.items():
        np.testing.assert_array_equal(again[name], value)
        same = np.array_equal(near[name], value)
        assert same != name.endswith("/positions"), name
    for name, value in shorter.items():
        np.testing.assert_array_equal(made[name], value)
    assert not np.array_equal(near["step0/tokens"], other["step0/tokens"])


def test_prompts_are_pieces_of_the_text_of_unequal_length():
    first, again, other = (prompts(count=6, longest=5, seed=seed) for seed in (3, 3, 4))
    assert [len(prompt) for prompt in first] == [5, 4, 3, 2, 2, 2]
    assert all(bytes(prompt.tolist()) in text() for prompt in first)
    assert {prompt.dtype for prompt in first} == {np.dtype(np.int32)}
    assert [prompt.tolist() for prompt in first] == [prompt.tolist() for prompt in again]
    assert [prompt.tolist() for prompt in first] != [prompt.tolist() for prompt in other]


def test_the_text_is_the_same_on_every_interpreter():
    # Worked out once from CPython 3.11's files; a difference would make every golden stale.
    assert hashlib.sha256(text()).hexdigest()[:8] == DIGEST
    assert codecs.encode("Beautiful is better than ugly.", "rot13").encode() in text()
    assert text().startswith(b"The Zen of Python")


@pytest.fixture
def fresh():
    """text() reads once a process: a test that changes what it reads must see it read, and leave no trace."""
    text.cache_clear()
    yield
    text.cache_clear()


def test_another_text_is_refused_with_both_digests(monkeypatch, tmp_path, fresh):
    changed = tmp_path / "this.py"
    changed.write_bytes(b's = """Pbzcyrk vf orggre."""\n')
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(origin=str(changed)))
    found = hashlib.sha256(changed.read_bytes()).hexdigest()[:8]
    with pytest.raises(TextError, match=f"this.py has digest {found}, expected {inputs._DIGEST}"):
        batches(rows=3, length=12, steps=1, seed=2)


@pytest.mark.parametrize("spec", [None, SimpleNamespace(origin=""), SimpleNamespace(origin="/nowhere/this.py")])
def test_a_missing_source_is_refused_by_its_name(monkeypatch, fresh, spec):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(TextError, match="standard library's module 'this' is missing: install it"):
        text()


def test_line_ends_do_not_matter(monkeypatch, tmp_path, fresh):
    places = {name: importlib.util.find_spec(name).origin for name in ("this", "antigravity")}
    expected = text()
    for name, place in places.items():
        with open(place, "rb") as file:
            (tmp_path / f"{name}.py").write_bytes(file.read().replace(b"\n", b"\r\n"))
    text.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(origin=str(tmp_path / f"{name}.py")))
    assert text() == expected


def test_positions_may_lie_apart_and_all_else_stays():
    near, far = (batches(rows=4, length=24, steps=1, seed=3, offset=11, stride=stride) for stride in (1, 3))
    assert {name for name in near if not np.array_equal(near[name], far[name])} == {"step0/positions"}
    start = np.where(np.arange(4) % 2 == 1, 11, 0)[:, None] * (near["step0/segment_ids"] > 0)
    np.testing.assert_array_equal(far["step0/positions"] - start, 3 * (near["step0/positions"] - start))
