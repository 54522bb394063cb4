"""The room that a model's own weights give to logits of two float32 passes, and who may ask for it."""

from __future__ import annotations

import numpy as np
import pytest

from impl.inputs import FIELDS, batches
from impl.params import draw
from impl.reference import Measured
from impl.reference.compare import with_room
from impl.reference.noise import room
from impl.reference.records import Run
from impl.tiny import family
from impl.training.objective import Batch

CONFIG = family("gemma2", num_decoder_layers=2, round_tied_table=True)


def run_of(value, bound=1e-5):
    row = Measured(name="logits", value=value, bound=bound, scale=4.0, where="row 0")
    return Run(variant="full", side="nnx", logits=(row,), terms=(), gradients=())


@pytest.mark.parametrize(
    ("value", "room", "bound"),
    [(3e-5, 4e-5, 4e-5), (3e-5, 2e-5, 2e-5), (3e-5, 5e-6, 1e-5), (3e-4, 2e-3, 1e-4), (np.nan, 2e-5, 2e-5)],
)
def test_logits_beyond_their_bound_get_the_room_that_their_weights_give(value, room, bound):
    found = with_room(run_of(value), {"full": room}.__getitem__)
    assert [row.bound for row in found.logits] == [pytest.approx(bound)]
    assert found.passed is (value <= bound)


def test_logits_within_their_bound_ask_for_no_room():
    assert with_room(run_of(9e-6), {}.__getitem__) == run_of(9e-6)


def test_the_room_is_of_the_size_of_roundings_and_leaves_a_rounded_table_alone():
    """Between float32 and float64 1e-6 to 1e-5 was seen. A table on the other side of a rounding moves far more."""
    made = batches(rows=2, length=CONFIG.max_target_length, steps=1, seed=5)
    batch, values = Batch(*[made[f"step0/{field}"] for field in FIELDS]), draw(CONFIG, 3)
    found = room(CONFIG, values, batch)
    assert 1e-6 < found < 2e-4
    assert room(CONFIG.overriding({"round_tied_table": False}), values, batch) != found
    other = {name: value * np.float32(1.5) if name.endswith("wo/kernel") else value for name, value in values.items()}
    assert room(CONFIG, other, batch) != found
