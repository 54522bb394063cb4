"""References: MaxText's own numbers on both sides, planted faults that must be seen, folders that must be refused."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from harness.cli import obeyed
from impl.checkpoint import save_tree
from impl.inputs import FIELDS, batches
from impl.math.loss import EPSILON
from impl.names import addresses, scatter
from impl.params import draw
from impl.reference import Measured, ReferenceFolderError, compare_reference, reference_data, reference_text
from impl.reference.folder import FIELDS as STORED
from impl.reference.folder import read_reference
from impl.sides import side
from impl.tiny import family
from impl.training.objective import Batch
from impl.training.settings import TrainSettings
from impl.trees import nested

CASES = ("llama2_unscan_nnx", "llama31real_scan_linen", "gemma2w16_scan_linen", "qwen3real_unscan_linen")
CASES += ("mixtralreal_scan_linen", "deepseek2real_scan_nnx")
CONFIG = family("gemma2", scan_layers=True, num_decoder_layers=2, param_scan_axis=0, round_tied_table=True)
LATER = {field.name for field in fields(CONFIG) if field.metadata}


@pytest.fixture
def references(maxtext):
    return maxtext("reference")


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_both_sides_give_maxtexts_numbers(references, case):
    report = compare_reference(references / case)
    assert report.passed, reference_text(report)
    names = [(run.variant, run.side) for run in report.runs]
    assert names == [(v, s) for v in ("full", "packed", "packed_posreset") for s in ("linen", "nnx")]
    for run in report.runs:
        assert len(run.logits) == 1
        assert {row.name for row in run.terms} >= {"xent_sum", "total_weights", "loss", "lm_loss", "z_loss"}
        # The reference keeps no gradients of the third variant; everywhere else every leaf is there.
        leaves = [row for row in run.gradients if "rounded" not in row.name]
        assert len(leaves) == (
            0 if run.variant == "packed_posreset" else len(read_reference(references / case).weights)
        )


def test_a_model_that_does_not_exist_here_is_bad_input(copied, capsys):
    content = json.loads((copied / "config.json").read_text())
    content["model"]["decoder_block"] = "qwen3_next"
    (copied / "config.json").write_text(json.dumps(content))
    assert obeyed(["reference", str(copied)]) == 2
    error = capsys.readouterr().err
    assert "decoder_block 'qwen3_next' does not exist here: there are deepseek, gemma2," in error
    assert error.count("\n") == 1


def test_every_reference_is_tried(references):
    assert {path.name for path in references.iterdir() if path.is_dir()} == {*CASES}


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A reference folder that this project computed itself, in Linen: scanned gemma2, one packed variant."""
    folder = tmp_path_factory.mktemp("made")
    values = draw(CONFIG, 3)
    inputs = batches(rows=3, length=CONFIG.max_target_length, steps=1, seed=5)
    batch = Batch(*[inputs[f"step0/{field}"] for field in FIELDS])
    trainer = side("linen").Trainer(CONFIG, TrainSettings(z_loss_multiplier=0.0), values)
    gradients, terms = trainer.gradients(batch)
    xent, weights = float(terms.xent_sum), float(terms.weights)
    loss = xent / (weights + EPSILON)
    scalars = {"xent_sum": xent, "total_weights": weights, "loss": loss, "lm_loss": loss, "moe_lb_loss": 0.0}
    table = addresses(CONFIG, "layers_{i}")
    leaves = {f"packed/{'/'.join(path)}": leaf for path, leaf in scatter(gradients, table).items()}
    model = {key: vars(CONFIG)[key] for key in vars(CONFIG).keys() - {"name", "round_tied_table"} - LATER}
    (folder / "config.json").write_text(json.dumps({"case": "made", "model": {**model, "use_iota_embed": True}}))
    (folder / "loss.json").write_text(json.dumps({"scalars": {"packed": scalars}}))
    np.savez(folder / "inputs.npz", **{f"packed/{name}": field for name, field in zip(STORED, batch, strict=True)})
    np.savez(folder / "logits.npz", packed=trainer.logits(batch))
    np.savez(folder / "grads.npz", **leaves)
    tree = nested(scatter(values, table))
    save_tree(folder / "checkpoint" / "7" / "items", {"params": {"params": tree}, "step": np.int32(7)})
    return folder


@pytest.fixture
def copied(made, tmp_path):
    """The made reference, to be spoilt."""
    for path in [path for path in made.rglob("*") if path.is_file()]:
        target = tmp_path / "copied" / path.relative_to(made)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return tmp_path / "copied"


def spoil(folder: Path, name: str, key: str, change) -> None:
    arrays = dict(np.load(folder / name, allow_pickle=False))
    arrays[key] = change(arrays[key].copy())
    np.savez(folder / name, **arrays)


def test_what_was_made_here_passes_and_planted_faults_do_not(made, copied, capsys, tmp_path):
    path = tmp_path / "report.json"
    assert obeyed(["reference", str(made), "--sides", "nnx", "--json", str(path)]) == 0
    assert "passed: " in capsys.readouterr().out
    content = json.loads(path.read_text())
    assert (content["passed"], content["runs"][0]["side"]) == (True, "nnx")

    def one(array, amount):
        array[(-1,) * array.ndim] += amount * np.abs(array).max()
        return array

    leaf = "packed/decoder/layers/mlp_local/wo/kernel"
    spoil(copied, "logits.npz", "packed", lambda array: one(array, 1e-3))
    spoil(copied, "grads.npz", leaf, lambda array: one(array, 1e-3))
    scalars = json.loads((copied / "loss.json").read_text())
    scalars["scalars"]["packed"] |= {"loss": scalars["scalars"]["packed"]["loss"] * 1.00001, "moe_lb_loss": 1e-6}
    (copied / "loss.json").write_text(json.dumps(scalars))
    report = compare_reference(copied, ("nnx",))
    failed = [row for run in report.runs for row in run.measured if not row.passed]
    layer = f"decoder/layers/{CONFIG.num_decoder_layers - 1}/mlp_local/wo/kernel"
    assert [row.name for row in failed] == ["logits", "loss", "moe_lb_loss", layer]
    # The last position of the last row is padding, and is compared all the same.
    assert failed[0].where == f"row 2, position {CONFIG.max_target_length - 1} (padding), token {CONFIG.vocab_size - 1}"
    text = reference_text(report)
    assert "4 beyond their bounds" in text
    assert text.endswith(f"not passed: {len(report.runs[0].measured)} comparisons in 1 runs")
    assert reference_data(report)["passed"] is False


def test_not_a_number_never_passes():
    row = Measured(name="logits", value=float("nan"), bound=1.0, scale=1.0)
    assert (row.passed, row.share) == (False, float("inf"))
    assert not Measured(name="total_weights", value=1.0, bound=0.0, scale=3.0).passed
    assert Measured(name="total_weights", value=0.0, bound=0.0, scale=3.0).passed


def widen(folder):
    spoil(folder, "logits.npz", "packed", lambda array: array[:, :-1])


def outside(folder):
    spoil(folder, "inputs.npz", "packed/inputs", lambda array: array + 400)


def variant_without_inputs(folder):
    np.savez(folder / "logits.npz", other=np.arange(3.0))


def field_gone(folder):
    arrays = dict(np.load(folder / "inputs.npz", allow_pickle=False))
    np.savez(folder / "inputs.npz", **{key: array for key, array in arrays.items() if "position" not in key})


def leaf_gone(folder):
    arrays = dict(np.load(folder / "grads.npz", allow_pickle=False))
    arrays.pop("packed/decoder/decoder_norm/scale")
    np.savez(folder / "grads.npz", **arrays)


def pickled(folder):
    np.savez(folder / "logits.npz", packed=np.array([{"a": 1}], dtype=object))


def no_archive(folder):
    (folder / "grads.npz").write_bytes(b"weights")


def no_json(folder):
    (folder / "config.json").write_text("{")


def other_sizes(folder):
    content = json.loads((folder / "config.json").read_text())
    content["model"]["mlp_dim"] += 1
    (folder / "config.json").write_text(json.dumps(content))


def no_checkpoint(folder):
    (folder / "checkpoint").rename(folder / "elsewhere")


def several_steps(folder):
    save_tree(folder / "checkpoint" / "9" / "items", {"params": {"params": {"a": np.arange(3.0)}}})


SPOILT = [
    (widen, r"logits of packed have shape \(3, 23, 259\), the inputs and the vocabulary ask for \(3, 24, 259\)"),
    (outside, r"packed/inputs has tokens from \d+ to \d+, the vocabulary has 259"),
    (variant_without_inputs, r"has inputs for \['packed'\], the other files have numbers for \['other', 'packed'\]"),
    (field_gone, "packed lacks inputs_position"),
    (leaf_gone, "decoder/decoder_norm/scale has no leaf at decoder.decoder_norm.scale"),
    (pickled, "logits.npz: cannot be read .*allow_pickle"),
    (no_archive, "grads.npz: cannot be read"),
    (no_json, "config.json: cannot be read"),
    (other_sizes, r"wi_0/kernel has shape \(20, 44\), the configuration says \(20, 45\)"),
    (no_checkpoint, "no Orbax checkpoint"),
    (several_steps, r"holds the steps \[7, 9\]"),
]


@pytest.mark.parametrize(("spoiler", "words"), SPOILT, ids=[spoiler.__name__ for spoiler, _ in SPOILT])
def test_a_spoilt_folder_is_refused(copied, spoiler, words):
    spoiler(copied)
    with pytest.raises(ReferenceFolderError, match=words):
        compare_reference(copied, ("linen",))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["/nowhere"], "/nowhere: expected a reference folder, found nothing"),
        ([__file__], "expected a reference folder, found a file"),
        (["{made}", "--sides", "linnen"], "no side is called 'linnen'"),
        (["{made}", "--sides", ","], "no side is called ''"),
        (["{made}", "--json", "/nowhere/at/all.json"], "does not exist: create it"),
        (["{empty}"], "config.json: cannot be read"),
    ],
)
def test_bad_usage_is_one_sentence(made, tmp_path, capsys, words, sentence):
    full = [word.format(made=made, empty=tmp_path) for word in words]
    assert obeyed(["reference", *full]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_weights_are_taken_in_the_widest_dtype_and_said_so(copied):
    content = json.loads((copied / "config.json").read_text())
    content["model"]["weight_dtype"] = "bfloat16"
    (copied / "config.json").write_text(json.dumps(content))
    found = read_reference(copied)
    assert {str(value.dtype) for value in found.weights.values()} == {found.config.weight_dtype} == {"float32"}
    assert any(
        "weights are stored as float32, weight_dtype is bfloat16: all were taken as float32" in n for n in found.notes
    )
    assert replace(found.config, weight_dtype="float32") == found.config
