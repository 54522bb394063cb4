"""The syrupy extension, in a pytest of its own."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from tests.harness.accepted_goldens import (
    KEY,
    NAME,
    at_a_desk,
    bytes_of,
    store,
)
from tests.harness.fabricate import observation

_desk = pytest.fixture(autouse=True)(at_a_desk)


PLUGIN_TEST = """
import numpy as np
import pytest
from pathlib import Path

from harness.golden.extension import in_folder
from tests.harness.fabricate import observation


@pytest.fixture
def golden(snapshot):
    return snapshot.use_extension(in_folder(Path({folder!r})))


def test_it(golden):
    seen = observation({{"loss": {{"total": np.float32({value})}}}})
    assert seen == golden(name={name!r})
"""


def run_pytest(folder, value, *options, name=f"{NAME}/{KEY}"):
    """Runs one golden assertion in a pytest of its own and returns its exit status and output."""
    case = folder / "case"
    case.mkdir(exist_ok=True)
    (case / "test_it.py").write_text(PLUGIN_TEST.format(folder=str(folder / "goldens"), value=value, name=name))
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "test_it.py"],
        cwd=case,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, textwrap.dedent(done.stdout + done.stderr)


@pytest.fixture
def accepted(tmp_path):
    store(tmp_path / "goldens", observation({"loss": {"total": np.float32(2.5)}}))
    return tmp_path


def test_extension_passes_on_a_fresh_golden(accepted):
    for options in ((), ("--snapshot-update",)):
        status_, output = run_pytest(accepted, 2.5000001, *options)
        assert status_ == 0, output
        assert "1 passed" in output


@pytest.mark.parametrize("options", [(), ("--snapshot-update",), ("--snapshot-update", "-p", "xdist", "-n", "1")])
def test_extension_fails_on_drift_and_never_writes(accepted, options):
    before = bytes_of(accepted / "goldens")
    status_, output = run_pytest(accepted, 2.75, *options)
    assert status_ == 1, output
    assert "drifted from golden llama2/llama2-scan0 (golden first): loss/total differs: 2.5 and 2.75" in output
    assert "harness golden accept" in output
    assert bytes_of(accepted / "goldens") == before


def spoil_body(folder):
    body = folder / "llama2.npz"
    body.write_bytes(body.read_bytes()[:-1])


def make_stale(folder):
    store(folder, observation({"loss": {"total": np.float32(2.5)}}), digest="e2" * 32)


def remove(folder):
    for path in folder.glob("*.*"):
        if path.is_file():
            path.unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(spoil_body, "the body is another"), (make_stale, "has changed since its golden"), (remove, "has no golden in")],
)
@pytest.mark.parametrize("options", [(), ("--snapshot-update",)])
def test_extension_fails_on_what_cannot_be_compared_and_never_writes(accepted, spoil, words, options):
    spoil(accepted / "goldens")
    before = bytes_of(accepted / "goldens")
    status_, output = run_pytest(accepted, 2.5, *options)
    assert status_ == 1, output
    assert words in output
    assert "harness golden regenerate" in output
    assert bytes_of(accepted / "goldens") == before


def test_extension_asks_for_a_name(accepted):
    status_, output = run_pytest(accepted, 2.5, name="nameless")
    assert status_ == 1
    assert "golden(name='scenario/key')" in output
