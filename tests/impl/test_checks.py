"""What a batch must be: every mistake that JAX would clamp, drop or broadcast in silence is refused by name."""

from __future__ import annotations

import numpy as np
import pytest

from impl.config import ConfigError
from impl.inputs import FIELDS, batches
from impl.tiny import family
from impl.training.checks import BatchError, check_batch
from impl.training.objective import Batch
from impl.training.settings import TrainSettings

CONFIG = family("llama2")


def good(rows=4, length=24):
    made = batches(rows=rows, length=length, steps=1, seed=9)
    return Batch(*[made[f"step0/{field}"] for field in FIELDS])


def with_value(field, value):
    changed = np.array(getattr(good(), field))
    changed[2, 5] = value
    return good()._replace(**{field: changed})


def refused(batch, words, config=CONFIG):
    with pytest.raises(BatchError, match=words):
        check_batch(batch, config, TrainSettings())


def test_a_batch_that_fits_passes_at_both_ends_of_every_range():
    check_batch(good(), CONFIG, TrainSettings(gradient_accumulation_steps=2))
    check_batch(with_value("tokens", 258), CONFIG, TrainSettings())
    check_batch(with_value("targets", 0), CONFIG, TrainSettings())
    check_batch(good()._replace(tokens=good().tokens.astype(np.uint8)), CONFIG, TrainSettings())
    check_batch(with_value("positions", 31), family("gpt3"), TrainSettings())
    check_batch(with_value("positions", 4000), CONFIG, TrainSettings())


@pytest.mark.parametrize("shape", [(24,), (0, 24), (4, 0), (2, 2, 24)], ids=str)
def test_tokens_of_no_rows_or_of_other_rank_are_refused(shape):
    fields = [np.zeros(shape, np.int32)] * len(FIELDS)
    refused(
        Batch(*fields), rf"tokens have shape \({str(shape)[1:-1]}\): they must be \[rows, length\], neither of them 0"
    )


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("dtype", ["float32", "bool"])
def test_every_field_must_hold_integers(field, dtype):
    refused(
        good()._replace(**{field: getattr(good(), field).astype(dtype)}), f"^{field} are {dtype}: they must be integers"
    )


@pytest.mark.parametrize("field", FIELDS[1:])
def test_every_field_must_have_the_tokens_shape(field):
    shorter = getattr(good(), field)[1:]
    refused(
        good()._replace(**{field: shorter}), rf"^{field} have shape \(3, 24\), tokens have \(4, 24\): they must agree"
    )
    one = getattr(good(), field)[:, :1]
    refused(good()._replace(**{field: one}), rf"^{field} have shape \(4, 1\), tokens have \(4, 24\)")


@pytest.mark.parametrize("field", ["tokens", "targets"])
def test_tokens_and_targets_must_lie_in_the_vocabulary(field):
    high = int(np.max(getattr(good(), field)))
    low = int(np.min(getattr(good(), field)))
    refused(with_value(field, 259), rf"^{field} range from {low} to 259: they must lie in \[0, vocab_size=259\)")
    refused(with_value(field, -1), rf"^{field} range from -1 to {high}: they must lie in \[0, vocab_size=259\)")


def test_learned_positions_must_lie_in_their_table():
    refused(
        with_value("positions", 32),
        r"^positions range from 0 to 32: they must lie in \[0, trainable_position_size=32\)",
        family("gpt3"),
    )
    refused(with_value("positions", -2), r"^positions range from -2 to ", family("gpt3"))


def test_rows_longer_than_the_model_are_refused():
    refused(good(length=25), "^rows of 25 tokens exceed max_target_length=24: cut them")


def test_rows_that_do_not_divide_into_microbatches_are_refused():
    with pytest.raises(ConfigError, match=r"^4 rows do not divide into gradient_accumulation_steps=3 microbatches"):
        check_batch(good(), CONFIG, TrainSettings(gradient_accumulation_steps=3))


def test_rows_that_do_not_divide_into_tiles_are_refused():
    with pytest.raises(ConfigError, match=r"^rows of 24 tokens do not divide into num_vocab_tiling=5 tiles: use a div"):
        check_batch(good(), CONFIG, TrainSettings(num_vocab_tiling=5))
    check_batch(good(), CONFIG, TrainSettings(num_vocab_tiling=8))
