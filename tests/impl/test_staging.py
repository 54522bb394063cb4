"""What impl's sides compile, on abstract values: proved equal between sides and layouts, and every slip is placed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.graph.proof import prove
from harness.proving import proofs
from harness.registry import load_pair
from impl.nnx import layers
from impl.tiny import FAMILIES, family
from impl.training.settings import TrainSettings

PAIR = load_pair("impl")
PLAIN = TrainSettings()
EVERY_PART = ["start", "gradients", "step"]


def proved(left, right, config, program="train", train=PLAIN, **overriding):
    """part -> Proof, of the side `left` at `config` and the side `right` at it with some fields replaced."""
    base = {"config": config, "train": train}
    sides = PAIR.sides[left], PAIR.sides[right]
    found = proofs(sides, (base, {**base, "overriding": overriding}), program)
    return {each.part: each.proof for each in found}


@pytest.mark.parametrize(("scan", "name"), [(bool(at % 2), name) for at, name in enumerate(FAMILIES)])
def test_the_whole_train_step_of_every_family_is_proved(name, scan):
    found = proved("linen", "nnx", family(name, scan_layers=scan))
    assert list(found) == EVERY_PART
    for part, proof in found.items():
        assert proof.proved, part
        assert (proof.constraints, proof.barriers) == ((), ()), part
    assert {name for name in found["step"].equal if name.startswith("loss/")} > {"loss/learning/loss"}
    assert any(name.startswith("updates/0/mu/decoder/") for name in found["step"].equal)
    assert found["step"].inputs == (("key",), ())


@pytest.mark.parametrize(("name", "scan"), [("llama2", False), ("gemma2", True), ("gpt3", True)])
def test_serving_is_proved_verb_by_verb(name, scan):
    found = proved("linen", "nnx", family(name, scan_layers=scan), "decode")
    assert list(found) == ["prefill", "insert", "generate", "sample"]
    for verb, proof in found.items():
        assert proof.proved, verb
    assert "chosen/tokens" in found["sample"].equal
    layer = "state/decoder/layers/1/self_attention"
    assert any(name.startswith(layer) and name.endswith("cached_ar_key") for name in found["generate"].equal)


def test_a_drawn_token_is_not_a_greedy_one():
    sides = PAIR.sides["linen"], PAIR.sides["nnx"]
    parts = [side.graphs({"config": family("llama2")})["decode"] for side in sides]
    found = prove(parts[0]["generate"](), parts[1]["sample"]())
    assert {"state/tokens", "state/token_logp"} <= found.unequal.keys()
    assert "state/logits" in found.equal


@pytest.mark.parametrize("side", ["linen_nnx_linen", "linen_nnx", "nnx_linen"])
def test_the_bridged_sides_are_proved_against_linen(side):
    assert all(proof.proved for proof in proved("linen", side, family("llama2", scan_layers=True)).values())


@pytest.mark.parametrize(
    "train",
    [
        TrainSettings(gradient_accumulation_steps=3),
        TrainSettings(opt_type="adam_pax", schedule="scalar"),
        TrainSettings(opt_type="sgd", gradient_clipping_threshold=0.0),
    ],
    ids=["accumulated", "adam_pax", "sgd"],
)
def test_other_train_steps_are_proved(train):
    found = proved("linen", "nnx", family("llama2", num_decoder_layers=11), train=train)
    assert all(proof.proved for proof in found.values())


@pytest.mark.parametrize("side", ["linen", "nnx"])
@pytest.mark.parametrize("axis", [0, 1])
def test_scanned_layers_compute_what_layers_written_out_compute(side, axis):
    found = proved(side, side, family("gpt3"), scan_layers=True, param_scan_axis=axis)
    assert found["start"].proved
    assert found["gradients"].proved
    # The gradient's norm is summed stack by stack there and layer by layer here: that is another sum.
    assert "loss/learning/raw_grad_norm" in found["step"].unequal


@pytest.mark.parametrize("policy", ["full", "minimal", "save_dot_except_mlp"])
def test_rematerialisation_changes_no_value_and_is_seen_beside_them(policy):
    found = proved("nnx", "nnx", family("llama2"), remat_policy=policy)
    assert all(proof.proved for proof in found.values())
    assert {mark.program for mark in found["gradients"].barriers} == {1}


def test_dropout_is_drawn_from_other_keys_and_not_proved():
    found = proved("linen", "nnx", family("llama2", dropout_rate=0.3))
    assert found["start"].proved
    assert "loss/xent_sum" in found["gradients"].unequal
    assert proved("linen", "nnx", family("llama2", dropout_rate=0.3), "forward")["forward"].proved


def test_a_slip_is_placed_at_its_line(monkeypatch):
    honest = layers.apply_scale

    def slipped(*args, **more):
        return honest(*args, **more) * 1.0001

    monkeypatch.setattr(layers, "apply_scale", slipped)
    proof = proved("linen", "nnx", family("llama2", scan_layers=True), "forward")["forward"]
    origin = proof.unequal["outputs/logits"].right[0]
    assert (origin.op, origin.operands[1]) == ("multiply", "1.0001")
    assert origin.place.file == __file__


def test_other_rows_are_another_program():
    base = {"config": family("llama2")}
    sides = PAIR.sides["linen"], PAIR.sides["linen"]
    (found,) = proofs(sides, ({**base, "rows": 2}, {**base, "rows": 3}), "forward")
    assert not found.proof.proved


def test_presets_are_offered_at_full_size():
    assert PAIR.models["llama3.1-405b"]()["config"].num_decoder_layers == 126
    assert replace(PAIR.models["gemma2-2b"]()["config"], name="x").emb_dim == 2304
