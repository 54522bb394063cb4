"""The manifest as a file: passed over by Orbax, never replaced, never half written, refused where it is damaged."""

from __future__ import annotations

import json
import os
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import orbax.checkpoint.experimental.v1 as v1
import pytest

from harness.cli import obeyed
from impl.checkpoint import as_data, check, checksum, checksum_text, compare, convert, inspect
from impl.checkpoint.checksums.manifest import FILE, digest_of, read_manifest
from impl.checkpoint.progress import untold
from tests.impl.checkpoint.orbax_writing import KERNEL, tree, write


@pytest.fixture(scope="module", params=["zarr2", "zarr3"])
def sealed(request, tmp_path_factory):
    """A checkpoint with its manifest."""
    folder = tmp_path_factory.mktemp(request.param) / "checkpoint"
    write(folder, tree(), zarr3=request.param == "zarr3")
    checksum(folder, untold)
    return folder


def test_the_manifest_is_passed_over_by_orbax_and_by_us(tmp_path):
    items = tmp_path / "run" / "3" / "default"
    with ocp.CheckpointManager(tmp_path / "run") as manager:
        manager.save(3, args=ocp.args.StandardSave(tree()))
    path, manifest = checksum(tmp_path / "run", untold)
    assert (path, len(manifest.leaves)) == (items / FILE, 6)  # a list shows its empty state as a leaf, None
    target = jax.tree.map(ocp.utils.to_shape_dtype_struct, tree())
    with ocp.CheckpointManager(tmp_path / "run") as manager:
        assert manager.latest_step() == 3
        found = manager.restore(3, args=ocp.args.StandardRestore(target))
    with ocp.StandardCheckpointer() as checkpointer:
        again = checkpointer.restore(items, target)
    alone = ocp.PyTreeCheckpointHandler().restore(items, args=ocp.args.PyTreeRestore())
    new = v1.load(tmp_path / "run" / "3")
    for each in (found, again, alone, new):
        assert np.array_equal(each["params"]["params"]["decoder"]["layers"]["w"], KERNEL)
    assert inspect(tmp_path / "run").dialect == "D1"
    assert convert(tmp_path / "run", tmp_path / "nnx", to="nnx", layout="keep", scan_axis=1).target_dialect == "D3"
    assert compare(tmp_path / "run", tmp_path / "nnx", values="values", rtol=0.0, atol=0.0, only="all").equal
    assert check(tmp_path / "run", untold).outcome == "AS RECORDED"


def flipped(path):
    data = bytearray(path.read_bytes())
    data[data.index(b'"values"') + 14] ^= 1
    path.write_bytes(data)


def other_version(path):
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))


def other_form(path):
    path.write_text(json.dumps({"leaves": {}}))


def lacking(path):
    body = json.loads(path.read_text())
    head = {name: body.pop(name) for name in ("form", "version", "algorithm", "digest")}
    next(iter(body["leaves"].values())).pop("shape")
    head["digest"] = digest_of(json.dumps(body, sort_keys=True, separators=(",", ":")).encode())
    path.write_text(json.dumps(head | body))


HARMS = [
    (lambda path: path.unlink(), "there is no manifest: write one with harness checksum"),
    (lambda path: os.truncate(path, 300), "the manifest is damaged (it is not readable as JSON"),
    (flipped, "its digest is not that of its content"),
    (other_version, "version 2 with 'xxh3_128', expected 1 with 'xxh3_128'"),
    (other_form, "it does not say that it is 'harness checksums'"),
    (lacking, "it lacks 'shape'"),
]


@pytest.mark.parametrize(("harm", "words"), HARMS, ids=["gone", "cut", "flipped", "version", "form", "lacking"])
def test_a_manifest_that_cannot_be_used_is_one_sentence_and_exit_code_2(sealed, tmp_path, capsys, harm, words):
    folder = shutil.copytree(sealed, tmp_path / "copy")
    harm(folder / FILE)
    assert obeyed(["checksum", str(folder), "--check"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert words in said


def test_a_manifest_is_never_replaced_and_never_half_written(sealed, tmp_path, capsys, monkeypatch):
    folder = shutil.copytree(sealed, tmp_path / "copy")
    assert obeyed(["checksum", str(folder)]) == 2
    assert "there is a manifest already" in capsys.readouterr().err
    (folder / FILE).unlink()
    before = set(folder.rglob("*"))
    monkeypatch.setattr(os, "replace", lambda *words: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert obeyed(["checksum", str(folder)]) == 2
    assert "cannot be written (No space left on device)" in capsys.readouterr().err
    assert set(folder.rglob("*")) == before
    monkeypatch.undo()
    assert obeyed(["checksum", str(folder), "--json", str(tmp_path / "written.json")]) == 0
    assert obeyed(["checksum", str(folder), "--check"]) == 0
    assert "AS RECORDED" in capsys.readouterr().out
    written = json.loads((tmp_path / "written.json").read_text())
    assert written == as_data(read_manifest(folder))
    assert written["leaves"] == as_data(read_manifest(sealed))["leaves"]
    assert "found" in checksum_text(check(folder, untold))


def test_a_tree_of_no_dialect_is_sealed_and_what_is_no_checkpoint_is_refused(tmp_path, capsys):
    write(tmp_path / "other", {"alpha": [KERNEL, "words", None], "beta": {}, "gamma": 3})
    assert obeyed(["checksum", str(tmp_path / "other")]) == 0
    manifest = read_manifest(tmp_path / "other")
    assert [leaf.dtype for leaf in manifest.leaves.values()] == ["float32", "str", "NoneType", "empty dict", "int64"]
    assert manifest.leaves["alpha/1"].values == digest_of(b"words")
    (tmp_path / "other" / "_strings.json").write_text(json.dumps({"alpha.1": "sword"}, separators=(",", ":")))
    rows = check(tmp_path / "other", untold).findings
    assert [(row.name, row.kind) for row in rows] == [("alpha/1", "values"), ("_strings.json", "bytes")]
    capsys.readouterr()
    (tmp_path / "nonsense").mkdir()
    (tmp_path / "nonsense" / "_METADATA").write_text("{]")
    for name in ("absent", "nonsense"):
        assert obeyed(["checksum", str(tmp_path / name)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "nonsense" / FILE).exists()
