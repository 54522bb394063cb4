"""Preference optimisation as graphs: the whole step of both sides proved equal, and a leak seen as another graph."""

from __future__ import annotations

import pytest

from harness.proving import proofs
from harness.registry import load_pair
from impl.nnx import dpo
from impl.tiny import family
from impl.training.settings import PreferenceSettings, TrainSettings

SIDES = tuple(load_pair("impl").sides[name] for name in ("linen", "nnx"))
THREE = TrainSettings(gradient_accumulation_steps=3)


def proved(config, train, **preference):
    settings = {"config": config, "train": train, "preference": PreferenceSettings(enable=True, **preference)}
    return {each.part: each.proof for each in proofs(SIDES, ({**settings, "rows": 6},) * 2, "dpo")}


@pytest.mark.parametrize(
    ("config", "train"),
    [
        (family("qwen3", scan_layers=True, num_decoder_layers=2), TrainSettings()),
        (family("gpt3", num_decoder_layers=2), THREE),
    ],
    ids=["scanned", "accumulated"],
)
def test_the_whole_step_is_proved_and_holds_the_reference(config, train):
    found = proved(config, train, label_smoothing=0.1)
    assert list(found) == ["evaluate", "gradients", "step"]
    for part, proof in found.items():
        assert proof.proved, part
        assert (proof.constraints, proof.barriers) == ((), ()), part
    kept = [name for name in found["step"].equal if name.startswith("updates/reference/")]
    assert "updates/reference/token_embedder/embedding" in kept
    assert not any("reference" in name for name in found["gradients"].equal)


def test_a_policy_that_is_its_own_reference_is_another_graph(monkeypatch):
    honest = dpo.preference_objective

    def slipped(ours, theirs, *more):
        return honest(ours, dpo.jax.lax.stop_gradient(ours), *more)

    monkeypatch.setattr(dpo, "preference_objective", slipped)
    found = proved(family("llama2", num_decoder_layers=1), TrainSettings())
    assert found["evaluate"].proved
    assert "loss/margin_sum" in found["gradients"].unequal
    assert "loss/pairs" in found["gradients"].equal
