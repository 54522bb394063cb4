"""paxml: every array where the decoder has it, turned as einsum turns it; nothing missing, nothing left over."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from impl.checkpoint import CheckpointError, PaxmlWishes, inspect, load_tree, paxml, paxml_text
from impl.checkpoint.derived.gpt3 import FUSED, SPLIT, turned
from impl.params import declare
from impl.tiny import family
from tests.impl.checkpoint import paxml_files as files
from tests.impl.checkpoint import zoo
from tests.impl.checkpoint.dialects.test_dialects import same


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paxml") / "checkpoint_00004000"
    files.write(folder, files.arrays())
    return folder


@pytest.fixture
def spoilt(source, tmp_path):
    shutil.copytree(source, tmp_path / "spoilt")
    return tmp_path / "spoilt"


def linen(scan_axis, **how):
    moments = {slot: {"params": zoo.nest(files.decoder(part, scan_axis, **how))} for slot, part in MOMENTS}
    return {
        "params": {"params": zoo.nest(files.decoder("", scan_axis, **how))},
        "opt_state": {"count": np.int32(4001), **moments},
        "step": np.int32(4000),
    }


MOMENTS = (("mu", "m"), ("nu", "v"))


@pytest.mark.parametrize(("qkv", "scan_axis"), [("fused", 1), ("split", 1), ("fused", 0), ("split", 2)])
def test_a_linen_train_state_of_adam_pax(source, tmp_path, qkv, scan_axis):
    report = paxml(source, tmp_path / "out", PaxmlWishes(qkv=qkv, scan_axis=scan_axis))
    same(load_tree(tmp_path / "out" / "4000" / "items"), linen(scan_axis, fused=qkv == "fused"))
    assert (report.arrays, report.step, report.notes, report.left_out) == (3 * 16 + 2, 4000, (), ())
    assert report.axes == files.SIZES
    found = inspect(tmp_path / "out")
    assert (found.dialect, found.optimizer) == ("D1", "adam_pax (flat count, mu, nu)")
    assert found.custom_metadata == {"scan_layers": True}
    assert "step 4000" in paxml_text(report)


def test_nnx_layer_by_layer(source, tmp_path):
    paxml(source, tmp_path / "out", PaxmlWishes(to="nnx", layout="unscanned"))
    found = load_tree(tmp_path / "out")
    trees = {"": found["model"]} | {part: found["optimizer"]["opt_state"][slot] for slot, part in MOMENTS}
    for part, tree in trees.items():
        for layer in range(3):
            wanted = zoo.nest(files.decoder(part, layer=layer))["decoder"][f"layers_{layer}"]
            same(tree["decoder"]["layers"][str(layer)], wanted)
    assert found["optimizer"]["opt_state"]["count"] == 4001
    assert found["optimizer"]["step"].dtype == np.uint32


def test_the_table_is_the_decoder_that_impl_has():
    config = family("gpt3", num_decoder_layers=3)
    rows = {row.target: row for row in FUSED}
    declared = {row.name.replace("layers/1/", "layers/"): row for row in declare(config) if "layers/2/" not in row.name}
    declared = {name: row for name, row in declared.items() if "layers/0/" not in name}
    assert set(rows) == set(declared)
    letters = {"L": 3, "V": config.vocab_size, "P": 32, "E": 20, "F": 44, "H": 4, "D": 6, "3": 3}
    for name, row in rows.items():
        shape = tuple(letters[letter] for letter in row.axes)
        found = turned(np.zeros(shape, np.float32), row, 0).shape
        assert found[row.layered :] == declared[name].shape, name


def test_both_tables_use_every_array_once_and_split_ones_thrice():
    for rows, fused in ((FUSED, 1), (SPLIT, 3)):
        uses = {name: sum(row.source == name for row in rows) for name in files.AXES}
        assert uses == {name: fused if "combined_qkv" in name else 1 for name in files.AXES}
        assert {row.source: row.axes for row in rows} == files.AXES


def declare_fill(folder):
    """Makes an array one whose chunks may be left out, and leaves them out."""
    metadata = json.loads((folder / ".zarray").read_text())
    (folder / ".zarray").write_text(json.dumps(metadata | {"fill_value": 0.0}))
    for chunk in ("0", "1"):
        (folder / chunk).unlink()


def test_weights_alone_and_arrays_left_behind(tmp_path):
    content = files.arrays(("",)) | {"mdl_vars.non_trainable.ema": np.arange(5.0, dtype=np.float32)}
    zeros = {files.key("", "lm.final_ln.bias"): np.zeros(6, np.float32)}
    files.write(tmp_path / "source", content | zeros)
    declare_fill(tmp_path / "source" / next(iter(zeros)))
    report = paxml(tmp_path / "source", tmp_path / "out", PaxmlWishes(leave_out=("*.ema", "*nothing*")))
    tree = linen(1)
    tree["params"]["params"]["decoder"]["decoder_norm"]["bias"] = np.zeros(6, np.float32)
    same(load_tree(tmp_path / "out"), {"params": tree["params"], "step": tree["step"]})
    assert report.left_out == ("mdl_vars.non_trainable.ema",)
    # Chunks that hold nothing but a declared fill value are not stored, and a lost file looks the same: it is said.
    words = "mdl_vars.params.lm.final_ln.bias: 2 chunks are not stored and were read as the fill value"
    assert report.notes[-1:] == (words,)


WI = files.key("", f"{files.BLOCK}.ff_layer.ffn_layer1.linear.w")
MU = files.key("m", f"{files.BLOCK}.self_attention.post.w")


def without(name):
    return lambda folder: shutil.rmtree(folder / name)


def with_array(name, shape):
    return lambda folder: [shutil.rmtree(folder / name, True), files.write(folder, {name: zoo.values("x", shape)})]


def cut(folder):
    chunk = folder / WI / "0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:7])


def lost(folder):
    (folder / WI / "1.0.0").unlink()


def nonsense(folder):
    (folder / WI / ".zarray").write_text('{"shape": [3], "chunks": [0]}')


def other_depth(folder):
    for name in [child.name for child in folder.iterdir() if "p#3#" in child.name]:
        (folder / name).rename(folder / name.replace("p#3#", "p#4#"))


def no_json(folder):
    metadata = json.loads((folder / WI / ".zarray").read_text())
    (folder / WI / ".zarray").write_text(json.dumps(metadata | {"zarr_format": 3}))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (without(WI), r"ffn_layer1.linear.w: no such array, and 0 more are absent"),
        (without(MU), r"opt_states_0.p#3#i-1_2.m.params.*post.w: no such array"),
        (without("step"), "step: no such array"),
        (with_array("mdl_vars.params.lm.extra", (2, 3)), r"lm.extra: has no place in the decoder, and 0 more"),
        (with_array(WI, (3, 6, 11)), r"ffn_layer1.linear.w: shape \(3, 6, 11\), expected \(3, 6, 10\) \(LEF"),
        (with_array(MU, (3, 6, 4, 2)), r"post.w: shape \(3, 6, 4, 2\), expected \(3, 6, 2, 4\)"),
        (with_array("step", (1,)), r"step: shape \(1,\), expected \(\) \(a single number"),
        (other_depth, r"opt_states_0.p#3#i-1_2.*: no such array, and 23 more are absent"),
        (cut, "ffn_layer1.linear.w: params/.*/mlp/wi/kernel: cannot be read"),
        (lost, "ffn_layer1.linear.w: chunk 1.0.0 is missing, one of 1"),
        (nonsense, "ffn_layer1.linear.w: .zarray cannot be understood"),
        (no_json, r"cannot be understood \(shape .* format 3\)"),
        (lambda folder: [shutil.rmtree(child) for child in folder.iterdir()], "no such array"),
    ],
)
def test_refused_by_name_and_nothing_written(spoilt, tmp_path, spoil, words):
    spoil(spoilt)
    with pytest.raises(CheckpointError, match=words):
        paxml(spoilt, tmp_path / "out", PaxmlWishes())
    assert [path.name for path in tmp_path.iterdir()] == ["spoilt"]


def test_refused_places(source, tmp_path):
    (tmp_path / "out").mkdir()
    for where, target, words in (
        (source, tmp_path / "out", "the target exists"),
        (source, source / "inside", "lies inside the source"),
        (tmp_path / "nowhere", tmp_path / "new", "expected a folder of arrays, found nothing"),
    ):
        with pytest.raises(CheckpointError, match=words):
            paxml(where, target, PaxmlWishes())
    with pytest.raises(CheckpointError, match="qkv='three', expected one of"):
        paxml(source, tmp_path / "new", PaxmlWishes(qkv="three"))
