"""A stranger's pair works from a folder that is not this checkout, and says so with exit code 0."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.test_house import ROOT

MLP = (ROOT / "examples" / "mlp.py").read_text(encoding="utf-8")


def verified(folder, text, *options):
    """`harness run --pair theirs:PAIR` in `folder`, from a stranger's file. Returns process and report."""
    (folder / "theirs.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "harness.cli", "run", "--pair", "theirs:PAIR", "--jobs", "1", *options]
    done = subprocess.run(
        [*command, "--json", "report.json"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    report = folder / "report.json"
    return done, json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}


def test_the_mlp_may_be_flipped(tmp_path):
    done, report = verified(tmp_path, MLP)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("The flag may be flipped.\n")
    assert report["summary"]["reached"] == {"PROVED": 4, "BITWISE": 5}
    assert report["summary"]["attested"] == {"linen": ["theirs.LinenMLP"], "nnx": ["theirs.NnxMLP"]}


@pytest.mark.parametrize(
    ("old", "new", "scenario", "channel"),
    [
        ("nnx.BatchNorm(24, rngs=rngs)", "nnx.BatchNorm(24, momentum=0.9, rngs=rngs)", "state", "state"),
        ("nnx.relu(self.norm", "nnx.gelu(self.norm", "forward", "outputs"),
    ],
)
def test_a_slip_in_it_is_found(tmp_path, old, new, scenario, channel):
    assert MLP.count(old) == 1
    done, report = verified(tmp_path, MLP.replace(old, new), "--scenario", scenario)
    assert done.returncode == 1, done.stdout + done.stderr
    (case,) = report["scenarios"]
    assert (case["rung"], case["first_divergence"]["channel"]) == ("DIVERGED", channel)
