"""What the plain model refuses, and what it does not look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import impl.reference.plain as plain
from impl.config import ModelConfig
from tests.house.imports import unlisted
from tests.impl.plain.cases import CASES, SETTINGS
from tests.impl.plain.rulers import exact_logits, plain_logits

ALLOWED = ("impl.config", "impl.params", "impl.reference.plain", "impl.training.settings", "numpy")
CASE = CASES["gpt3"]
KERNEL = "decoder/layers/0/mlp/wo/kernel"


def test_it_imports_neither_the_maths_nor_a_framework():
    files = sorted(Path(plain.__file__).parent.glob("*.py"))
    assert {path.stem for path in files} >= {"attention", "decoder", "losses", "rotary", "experts", "latent"}
    for path in files:
        module = f"impl.reference.plain.{path.stem}"
        assert unlisted(path.read_text(encoding="utf-8"), module, ALLOWED) == []


@pytest.mark.parametrize("name", ["gemma2", "gpt3", "mistral", "qwen3", "gemma3", "gpt_oss", "deepseek_mla_lora"])
def test_it_reads_fields_and_not_what_both_sides_derive_from_them(name, monkeypatch):
    expected = exact_logits(CASES[name])
    for derived in ("norm_offset", "query_scale", "rope", "rope_of", "window"):
        monkeypatch.setattr(ModelConfig, derived, property(lambda self: pytest.fail("a derived property was read")))
    np.testing.assert_array_equal(plain_logits(CASES[name]), expected)


def test_logits_are_float64_and_weights_stay_as_they_were():
    before = {name: value.copy() for name, value in CASE.weights.items()}
    found = plain_logits(CASE)
    assert found.dtype == np.float64
    assert all(np.array_equal(CASE.weights[name], value) for name, value in before.items())


def changed(**fields):
    return CASE.batch._replace(**fields)._asdict()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({KERNEL: np.ones((44, 19), np.float32)}, r"wo/kernel has shape \(44, 19\), the model wants \(44, 20\)"),
        ({"decoder/layers/1/mlp/wo/kernel": np.ones((44, 20))}, r"layers/1/mlp/wo/kernel belongs to no parameter"),
    ],
)
def test_weights_of_another_model_are_refused(weights, message):
    with pytest.raises(plain.PlainError, match=message):
        plain.objective(CASE.config, SETTINGS, {**CASE.weights, **weights}, CASE.batch._asdict())


def test_a_missing_weight_is_refused():
    kept = {name: value for name, value in CASE.weights.items() if name != KERNEL}
    with pytest.raises(plain.PlainError, match=r"^decoder/layers/0/mlp/wo/kernel is missing: draw the weights"):
        plain.objective(CASE.config, SETTINGS, kept, CASE.batch._asdict())


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (
            changed(tokens=CASE.batch.tokens + 131),
            r"tokens range from \d+ to \d+: .* in \[0, vocab_size=131\)",
        ),
        (changed(positions=-CASE.batch.positions), r"positions range from -\d+ to 0: .* trainable_position_size=32"),
        (changed(targets=CASE.batch.targets - 1), r"targets range from -1 to \d+: must lie in \[0, 131\)"),
        (changed(segment_ids=CASE.batch.segment_ids[:, 1:]), r"shapes are .*\(2, 12\).* one and the same"),
    ],
)
def test_batches_that_numpy_would_read_wrongly_are_refused(batch, message):
    with pytest.raises(plain.PlainError, match=message):
        plain.objective(CASE.config, SETTINGS, CASE.weights, batch)
