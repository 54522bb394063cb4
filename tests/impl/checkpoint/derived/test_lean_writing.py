"""entropy, export and paxml have one leaf in memory at a time, and need neither Orbax nor jax."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from impl.checkpoint import load_tree, save_tree
from tests.impl.checkpoint import paxml_files
from tests.test_house import ROOT

MEASURED = """
import json, sys
from pathlib import Path
from impl import checkpoint
verb, source, target = sys.argv[1:]
wishes = {"entropy": (), "export": (checkpoint.ExportWishes(layout="unscanned"),), "paxml": (checkpoint.PaxmlWishes(),)}
told = []
report = getattr(checkpoint, verb)(Path(source), Path(target), *wishes[verb], lambda *counts: told.append(counts))
heavy = [name for name in ("jax", "orbax", "flax", "optax") if name in sys.modules]
(peak,) = [int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")]
moved, totals = sum(count for count, total in told), {total for count, total in told}
print(json.dumps([peak, heavy, moved, sorted(totals), max(count for count, total in told)]))
"""
LARGEST = 4 * 3 * 700 * 1100


def measured(verb, source, target):
    words = [sys.executable, "-c", MEASURED, verb, str(source), str(target)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """A train state of 9 leaves of 9.24 MB: one chunk each, three layers, AdamW's slots beside."""
    folder = tmp_path_factory.mktemp("large") / "state"
    draw = np.random.default_rng(3)

    def model():
        layers = {f"w{index}": draw.random((700, 3, 1100), np.float32) for index in range(3)}
        return {"params": {"decoder": {"layers": layers}}}

    adam = {"count": np.int32(4), "mu": model(), "nu": model()}
    save_tree(folder, {"params": model(), "opt_state": [adam, None, {"count": np.int32(4)}], "step": np.int32(4)})
    return folder


@pytest.mark.parametrize("verb", ["entropy", "export"])
def test_one_leaf_at_a_time(state, tmp_path, verb):
    peak, heavy, moved, totals, step = measured(verb, state, tmp_path / "out")
    assert heavy == []
    assert peak < 100e6 + 2 * LARGEST < 75e6 + 2 * 9 * LARGEST
    # What is computed is written and read back: 6 leaves of moments, or 3 of weights in bfloat16.
    assert [moved] == totals == [2 * 6 * LARGEST if verb == "entropy" else 2 * 3 * LARGEST // 2]
    assert step <= 4 << 20
    found = load_tree(tmp_path / "out")["params"]["params"]["decoder"]
    assert len(found) == (1 if verb == "entropy" else 3)


def test_paxml_too(tmp_path, monkeypatch):
    monkeypatch.setattr(paxml_files, "SIZES", {**paxml_files.SIZES, "E": 600, "F": 1800})
    content = paxml_files.arrays()
    paxml_files.write(tmp_path / "source", content)
    largest = max(array.nbytes for array in content.values())
    whole = sum(array.nbytes for array in content.values())
    peak, heavy, moved, totals, _ = measured("paxml", tmp_path / "source", tmp_path / "out")
    assert heavy == []
    assert peak < 100e6 + 2 * largest
    assert whole > 2 * largest + 25e6  # the interpreter and TensorStore have 75 MB: everything at once would be seen
    assert [moved] == totals
