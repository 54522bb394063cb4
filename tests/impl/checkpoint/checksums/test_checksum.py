"""The manifest of digests: what flips, cuts and losses it finds, what it passes over, and that Orbax passes over it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from harness.cli import obeyed
from impl.checkpoint import CheckpointError, check, checksum, save_tree
from impl.checkpoint.checksums.manifest import FILE
from impl.checkpoint.progress import untold
from impl.checkpoint.storage.index import Extent, read_index, stored_arrays
from tests.impl.checkpoint.orbax_writing import KERNEL, tree, write
from tests.test_house import ROOT

NAME = "params/params/decoder/layers/w"


@pytest.fixture(scope="module", params=["zarr2", "zarr3"])
def sealed(request, tmp_path_factory):
    """A checkpoint with its manifest."""
    folder = tmp_path_factory.mktemp(request.param) / "checkpoint"
    write(folder, tree(), zarr3=request.param == "zarr3")
    checksum(folder, untold)
    return folder


def flip(file, offset, bit):
    with file.open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)[0]
        stream.seek(offset)
        stream.write(bytes([byte ^ (1 << bit)]))


def drawn(folder, count):
    """Seeded places in the data files of a store: (file, offset, bit), larger files more often."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.parent.name == "d")
    sizes = [path.stat().st_size for path in files]
    generator = np.random.default_rng(17)
    for place in generator.integers(0, sum(sizes), count):
        which = int(np.searchsorted(np.cumsum(sizes), place, side="right"))
        yield files[which], int(place) - sum(sizes[:which]), int(generator.integers(0, 8))


def in_chunks(folder, file, offset):
    """The leaves whose encoded bytes hold a byte of a file."""
    name = file.relative_to(folder).as_posix()
    return [
        leaf
        for leaf, stored in stored_arrays(read_index(folder)).items()
        for value in stored.chunks.values()
        if isinstance(value, Extent) and value.file == name and value.offset <= offset < value.offset + value.length
    ]


def findings(folder):
    """What is found, or () where the index cannot be read."""
    try:
        return check(folder, untold).findings
    except CheckpointError:
        return ()


def test_each_of_100_flipped_bits_is_found_and_its_leaf_named(sealed, tmp_path):
    folder = shutil.copytree(sealed, tmp_path / "flipped")
    hit = 0
    for file, offset, bit in drawn(folder, 100):
        leaves = in_chunks(folder, file, offset)
        hit += bool(leaves)
        flip(file, offset, bit)
        if found := findings(folder):
            wanted = {leaf.replace(".", "/") for leaf in leaves} or {str(file.relative_to(folder))}
            assert {row.name for row in found} == wanted
        else:  # the index has checksums of its own
            assert not leaves
            with pytest.raises(CheckpointError, match=str(folder)):
                check(folder, untold)
        flip(file, offset, bit)
    assert hit > 75
    assert check(folder, untold).findings == ()


def test_orbax_alone_restores_flipped_values(sealed, tmp_path):
    folder = shutil.copytree(sealed, tmp_path / "flipped")
    for stored in stored_arrays(read_index(folder)).values():
        for value in stored.chunks.values():
            if isinstance(value, Extent):  # not where the codec keeps its own tables
                flip(folder / value.file, value.offset + value.length // 2, 3)
    found = ocp.PyTreeCheckpointHandler().restore(folder, args=ocp.args.PyTreeRestore())
    leaves = jax.tree.leaves(found["params"]["params"]["decoder"])
    assert len(leaves) == 2
    assert not np.array_equal(found["params"]["params"]["decoder"]["layers"]["w"], KERNEL)
    assert {row.kind for row in check(folder, untold).findings} == {"values"}


def test_every_leaf_whose_bytes_are_gone_is_listed(sealed, tmp_path):
    folder = shutil.copytree(sealed, tmp_path / "cut")
    file = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    whole, name = file.stat().st_size, str(file.relative_to(folder))
    inside = {
        leaf.replace(".", "/")
        for leaf, stored in stored_arrays(read_index(folder)).items()
        if any(isinstance(value, Extent) and value.file == name for value in stored.chunks.values())
    }
    assert inside
    os.truncate(file, 10)
    rows = check(folder, untold).findings
    found = {(row.what, row.name, row.kind) for row in rows}
    assert found == {("leaf", leaf, "unreadable") for leaf in inside} | {("file", name, "size")}
    assert all(file.name in row.detail for row in rows if row.what == "leaf")
    assert f"{whole} bytes in the manifest, 10 on disk" in rows[-1].detail
    file.unlink()
    kinds = [(row.what, row.kind) for row in check(folder, untold).findings]
    assert kinds == [("leaf", "unreadable")] * len(inside) + [("file", "missing")]


def test_leaves_and_files_that_lack_or_are_more_or_other_are_named(sealed, tmp_path, capsys):
    other = tree(KERNEL[:, :3].copy())
    other["params"]["params"]["decoder"]["norm"] = {"bias": KERNEL[0, 0].astype(np.float64)}
    other["step"] = np.asarray(7, np.int64)
    write(tmp_path / "other", other, zarr3="zarr3" in str(sealed))
    shutil.copy(sealed / FILE, tmp_path / "other" / FILE)
    (tmp_path / "other" / "notes").write_text("mine")
    rows = {(row.name, row.kind) for row in check(tmp_path / "other", untold).findings}
    assert rows >= {
        (NAME, "shape"),
        ("params/params/decoder/norm/scale", "missing"),
        ("params/params/decoder/norm/bias", "extra"),
        ("step", "dtype"),
        ("notes", "extra"),
    }
    assert obeyed(["checksum", str(tmp_path / "other"), "--check", "--json", str(tmp_path / "found.json")]) == 1
    out = capsys.readouterr().out
    assert "DIFFERENT" in out
    assert "params/params/decoder/norm/bias" in out
    assert len(json.loads((tmp_path / "found.json").read_text())["findings"]) == len(rows)


def test_values_that_are_encoded_otherwise_are_told_from_other_values(sealed, tmp_path):
    changed = tree()
    changed["params"]["params"]["decoder"]["layers"] = {"w": KERNEL + np.float32(1)}
    write(tmp_path / "other", changed, zarr3="zarr2" in str(sealed), piece=480, axes=(0,))
    shutil.copy(sealed / FILE, tmp_path / "other" / FILE)
    report = check(tmp_path / "other", untold)
    kinds = {row.name: row.kind for row in report.findings if row.what == "leaf"}
    assert kinds.pop(NAME) == "values"
    assert set(kinds.values()) == {"encoding"}
    assert (len(kinds), report.decoded) == (4, 5)


def test_arrays_in_files_of_their_own_are_sealed_too(tmp_path):
    write(tmp_path / "plain", tree(), ocdbt=False)
    path, manifest = checksum(tmp_path / "plain", untold)
    assert path == tmp_path / "plain" / FILE
    assert len(manifest.leaves[NAME].chunks) == 1
    assert check(tmp_path / "plain", untold).findings == ()
    file = tmp_path / "plain" / NAME.replace("/", ".") / "0.0.0"
    flip(file, file.stat().st_size // 2, 5)
    (row,) = check(tmp_path / "plain", untold).findings
    assert (row.what, row.name, row.kind) == ("leaf", NAME, "values")
    restored = ocp.PyTreeCheckpointHandler(use_ocdbt=False).restore(tmp_path / "plain", args=ocp.args.PyTreeRestore())
    assert np.array_equal(restored["opt_state"][0]["mu"]["params"]["decoder"]["layers"]["w"], KERNEL)


SEALING = """
import sys
from pathlib import Path
from impl.checkpoint import checksum
checksum(Path(sys.argv[1]), lambda read, total: None)
print(next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def test_sealing_a_large_leaf_takes_twice_its_room(tmp_path):
    stack = np.random.default_rng(1).random((1024, 8, 1024), np.float32)  # one chunk, compressed, of eight layers
    save_tree(tmp_path / "large", {"params": {"params": {"decoder": {"layers": {"w": stack}}}}})
    words = [sys.executable, "-c", SEALING, str(tmp_path / "large")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100e6 + 2 * stack.nbytes
