"""A conversion is there or is not: killed, refused by the disk, or overtaken, it leaves the source and others' work."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import threading

import numpy as np
import orbax.checkpoint as ocp
import pytest

from impl.checkpoint import CheckpointError, Request, compare, convert_as, inspect, load_tree, save_tree
from impl.checkpoint.storage import location
from impl.checkpoint.storage.location import staged
from tests.impl.checkpoint.killing import kill
from tests.test_house import ROOT


def attempt(source, target, **options):
    options = {"to": "auto", "layout": "unscanned", "scan_axis": 1} | options
    return convert_as(Request(source=source, target=target, **options), lambda moved, total: None)


def digest(folder):
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return hashlib.sha256(b"".join(str(file).encode() + file.read_bytes() for file in files)).hexdigest()


@pytest.fixture
def source(tmp_path, linen_tree):
    tree = linen_tree(3, 1)
    tree["params"]["params"]["token_embedder"]["embedding"] = np.arange(0.5, 40_000, dtype=np.float32).reshape(400, 100)
    tree["params"]["params"]["decoder"]["layers"]["wide"] = np.arange(0.5, 7200, dtype=np.float32).reshape(48, 3, 50)
    tree["opt_state"] = {}
    save_tree(tmp_path / "source", tree)
    return tmp_path / "source"


KILLED_AT = [
    "conversion.transfer.carry_file",
    "conversion.transfer.make_chunks",
    "conversion.transfer.write_index",
    "conversion.transfer.write_tree",
    "conversion.transfer._sync_below",
    "conversion.convert.write_step",
    "conversion.convert.keys_of",
    "storage.location._named",
    "storage.location._renamed_by_linux",
]


def test_killed_anywhere_it_leaves_the_source_and_nothing_that_a_restore_takes(source, tmp_path):
    before = digest(source)
    kill("convert", source, KILLED_AT)
    assert digest(source) == before
    attempt(source, tmp_path / "whole")
    for place in KILLED_AT:
        target = tmp_path / place
        assert not target.exists()
        (stage,) = tmp_path.glob(f"{place}.orbax-checkpoint-tmp-*")
        with pytest.raises(ValueError, match="incomplete checkpoint"):
            ocp.PyTreeCheckpointer().restore(stage)
        with pytest.raises(CheckpointError, match="unfinished"):
            inspect(stage)
        again = attempt(source, target)
        assert any(f"{stage.name} beside the target: it was removed" in note for note in again.notes)
        assert not stage.exists()
        assert compare(tmp_path / "whole", target, values="values", rtol=0.0, atol=0.0, only="all").equal


def test_what_another_writer_may_still_need_is_named_and_left(source, tmp_path):
    mark = f"out{location.UNFINISHED}"
    running = tmp_path / f"{mark}-{location._machine()}-{os.getpid()}-0123abcd"
    elsewhere = tmp_path / f"{mark}-00000000-4194305-0123abcd"  # Linux has no process of that number
    gone = tmp_path / f"{mark}-{location._machine()}-4194305-0123abcd"
    for folder in (running, elsewhere, gone):
        folder.mkdir()
    *_, removed, left = attempt(source, tmp_path / "out").notes
    assert removed == f"a writer that was killed had left {gone.name} beside the target: it was removed"
    assert left.startswith(f"{', '.join(sorted((running.name, elsewhere.name)))} lies beside the target")
    assert [folder.exists() for folder in (running, elsewhere, gone)] == [True, True, False]


def full(*arguments, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("place", ["os.pwrite", "os.copy_file_range", "os.fsync", "os.link", "json.dumps"])
def test_a_disk_that_is_full_is_one_sentence_and_leaves_nothing(source, tmp_path, monkeypatch, place):
    before = digest(source)
    monkeypatch.setattr(place, full)
    mode = "copy" if "copy" in place else "link"
    with pytest.raises(CheckpointError, match=r"out.*No space left on device"):
        attempt(source, tmp_path / "out", mode=mode)
    monkeypatch.undo()
    assert digest(source) == before
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_file_that_may_not_grow(source, tmp_path):
    program = (
        "import resource, sys\nfrom harness.cli import obeyed\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "sys.exit(obeyed(['convert', sys.argv[1], sys.argv[2], '--mode', 'copy']))"
    )
    words = [sys.executable, "-c", program, str(source), str(tmp_path / "out")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "File too large" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("parent", ["/proc", "file"])
def test_a_place_where_nothing_can_be_written(source, tmp_path, parent):
    (tmp_path / "file").write_text("mine")
    folder = tmp_path / "file" if parent == "file" else parent
    with pytest.raises(CheckpointError, match="cannot be written"):
        attempt(source, (tmp_path / folder) / "out")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("system", ["has the call", "has it not"])
def test_the_faster_of_two_writers_wins_and_keeps_all(tmp_path, monkeypatch, system):
    if system == "has it not":
        monkeypatch.setattr("impl.checkpoint.storage.location._renamed_by_linux", lambda stage, target: False)

    def race():
        with staged(tmp_path / "out") as slow:
            slow.mkdir()
            (slow / "slow").write_text("lost")
            with staged(tmp_path / "out") as fast:
                fast.mkdir()
                (fast / "fast").write_text("kept")

    with pytest.raises(CheckpointError, match="another writer finished it meanwhile"):
        race()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["fast"]


def test_converters_that_meet_at_one_target(source, tmp_path):
    found, gate = [], threading.Barrier(4)

    def run():
        gate.wait()
        try:
            found.append(attempt(source, tmp_path / "out").leaves)
        except CheckpointError as problem:
            found.append(str(problem))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    words = [each for each in found if isinstance(each, str)]
    assert len(words) == 3
    assert all("another writer finished it" in each or "the target exists" in each for each in words)
    assert load_tree(tmp_path / "out")["model"]["token_embedder"]["embedding"][399, 99] == 39_999.5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


MEASURED = """
import json, sys
from pathlib import Path
from impl.checkpoint import Request, convert_as
source, layout, mode = sys.argv[1:]
request = {"source": Path(source), "target": Path(source + layout + mode), "layout": layout, "mode": mode}
transfer = convert_as(Request(**request, to="D1", scan_axis=1), lambda moved, total: None).transfer
heavy = [name for name in ("jax", "orbax", "flax", "optax") if name in sys.modules]
# Not ru_maxrss: a new process inherits that of the one that started it.
(peak,) = [int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(json.dumps([peak, transfer.mode, transfer.made_bytes, transfer.kept_bytes, heavy]))
"""


def measured(source, layout, mode):
    words = [sys.executable, "-c", MEASURED, str(source), layout, mode]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_memory_does_not_grow_with_the_arrays(tmp_path):
    layers = np.random.default_rng(1).normal(size=(900, 8, 1100)).astype(np.float32)
    decoder = {f"layers_{index}": {"mlp": {"kernel": layers[:, index]}} for index in range(8)}
    save_tree(tmp_path / "apart", {"params": {"params": {"decoder": decoder}}})
    for mode in ("link", "copy"):
        peak, how, made, kept, heavy = measured(tmp_path / "apart", "scanned", mode)
        assert (how, made, heavy) == (mode, 0, [])
        assert kept > 0.8 * layers.nbytes
        assert peak < 100e6
    save_tree(tmp_path / "stacked", {"params": {"params": {"decoder": {"layers": {"mlp": {"kernel": layers}}}}}})
    peak, _, made, _, heavy = measured(tmp_path / "stacked", "unscanned", "link")
    assert (made > 0.8 * layers.nbytes, heavy) == (True, [])
    assert peak < 100e6 + 2 * layers.nbytes


def test_inspect_and_convert_load_no_framework(source, tmp_path):
    program = (
        "import sys\nfrom harness.cli import obeyed\nfor words in (['inspect'], ['convert', sys.argv[2]]):\n"
        "    assert obeyed([words[0], sys.argv[1], *words[1:]]) == 0\n"
        "print(*[name for name in ('jax', 'flax', 'optax', 'orbax') if name in sys.modules], 'loaded')"
    )
    words = [sys.executable, "-c", program, str(source), str(tmp_path / "out")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == ["loaded"]
    assert os.path.isdir(tmp_path / "out")
