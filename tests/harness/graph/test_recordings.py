"""Recordings: written with jax alone, read back to the same proof; a file that is none is refused in a sentence."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from harness import recorder
from harness.cli import obeyed
from harness.graph.proof import prove
from harness.graph.recordings import RecordingError, load
from harness.recorder import MEMBERS, Leaf, lower, record, write

ROW = jax.ShapeDtypeStruct((3, 5), "float32")
CONSTANTS = np.random.default_rng(3).normal(size=(5, 5)).astype(np.float32)


def scaled(by):
    def run(weights, x):
        return {"out": jnp.tanh(x @ CONSTANTS) * weights["scale"] * by, "loss": jnp.sort(x.reshape(-1)).sum()}

    return run


WEIGHTS = {"scale": jax.ShapeDtypeStruct((5,), "float32")}


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "left.zip"
    record(path, scaled(2.0), WEIGHTS, ROW, inputs=lambda path: path.partition("/")[2] or "x")
    return path


def test_what_is_read_back_proves_equal_to_what_was_written(recording):
    found = load(recording)
    assert found.inputs[-2:] == (Leaf(("scale",)), Leaf(("x",)))
    assert found.toolchain["jax"] == jax.__version__
    same = lower(scaled(2.0), (WEIGHTS, ROW), lambda path: path.partition("/")[2] or "x")
    proof = prove(found, same)
    assert proof.proved
    assert proof.equal == ("loss", "out")
    other = lower(scaled(3.0), (WEIGHTS, ROW), lambda path: path.partition("/")[2] or "x")
    parted = prove(found, other)
    assert parted.equal == ("loss",)
    assert Path(parted.unequal["out"].left[0].place.file).name == Path(__file__).name


def test_the_same_program_is_the_same_bytes(recording, tmp_path):
    again = tmp_path / "again.zip"
    record(again, scaled(2.0), WEIGHTS, ROW, inputs=lambda path: path.partition("/")[2] or "x")
    with zipfile.ZipFile(recording) as one, zipfile.ZipFile(again) as other:
        assert one.read(MEMBERS[0]) == other.read(MEMBERS[0])
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


def test_the_recorder_needs_jax_and_the_standard_library_alone(tmp_path):
    alone = tmp_path / "recorder.py"
    alone.write_bytes(Path(recorder.__file__).read_bytes())
    script = (
        "import sys, jax; sys.modules['flax'] = sys.modules['harness'] = None; import recorder;"
        "recorder.record('out.zip', lambda x: {'y': x * 2}, jax.ShapeDtypeStruct((3,), 'float32'))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert load(tmp_path / "out.zip").outputs == (Leaf(("y",)),)


def rewritten(path, **members):
    with zipfile.ZipFile(path) as archive:
        contents = {member: archive.read(member) for member in MEMBERS}
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in {**contents, **members}.items():
            if content is not None:
                archive.writestr(member, content)


def header(path, **changed):
    with zipfile.ZipFile(path) as archive:
        found = json.loads(archive.read(MEMBERS[0]))
    rewritten(path, **{MEMBERS[0]: json.dumps({**found, **changed})})


HOSTILE = {
    "no zip": (lambda path: path.write_bytes(b"\x80\x04pickled"), "is no recording"),
    "empty": (lambda path: path.write_bytes(b""), "is no recording"),
    "absent": (Path.unlink, "does not exist"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "is no recording"),
    "without program": (lambda path: rewritten(path, **{MEMBERS[1]: None}), "is no recording"),
    "without names": (lambda path: rewritten(path, **{MEMBERS[0]: None}), "is no recording"),
    "names that are no JSON": (lambda path: rewritten(path, **{MEMBERS[0]: "{"}), "is not what the recorder writes"),
    "names that are a list": (lambda path: rewritten(path, **{MEMBERS[0]: "[]"}), "is not what the recorder writes"),
    "another format": (lambda path: header(path, format=99), "has format 99, this harness reads 1"),
    "a name that is a number": (
        lambda path: header(path, inputs=[{"names": [3], "axis": -1}]),
        "not what the recorder",
    ),
    "no names in a leaf": (lambda path: header(path, inputs=[{"names": [], "axis": -1}]), "not what the recorder"),
    "a stack on no axis": (
        lambda path: header(path, inputs=[{"names": ["a", "b"], "axis": -1}]),
        "not what the recorder",
    ),
    "a program of noise": (lambda path: rewritten(path, **{MEMBERS[1]: b"ML\xefR" + bytes(64)}), "cannot be read"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_file_that_is_no_recording_is_refused_in_one_sentence(what, recording, capsys):
    spoil, words = HOSTILE[what]
    other = recording.with_name("right.zip")
    other.write_bytes(recording.read_bytes())
    spoil(recording)
    with pytest.raises(RecordingError, match=words):
        load(recording)
    assert obeyed(["prove", str(recording), str(other)]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said


def test_names_of_another_program_are_refused(recording, capsys):
    header(recording, outputs=[{"names": ["loss"], "axis": -1}])
    assert obeyed(["prove", str(recording), str(recording)]) == 2
    assert "1 names for 2 outputs: the recording does not belong to its program" in capsys.readouterr().err


def test_nothing_is_left_behind_when_a_recording_cannot_be_written(tmp_path):
    lowered = lower(scaled(2.0), (WEIGHTS, ROW))
    target = tmp_path / "taken"
    target.mkdir()
    with pytest.raises(OSError, match="taken"):
        write(target, lowered)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
