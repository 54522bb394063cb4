"""compare and checksum need neither Orbax nor jax, and little memory however large a checkpoint is."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np

from impl.checkpoint import save_tree
from tests.test_house import ROOT

PROGRAM = """
import sys
from harness.cli import obeyed
left, right, other = sys.argv[1:]
lines = [["compare", "--values", left, right], ["compare", "--values", left, other]]
lines += [["checksum", left], ["checksum", left, "--check"]]
codes = [obeyed(words) for words in lines]
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(peak, codes, [name for name in ("jax", "flax", "optax", "orbax") if name in sys.modules])
"""


def test_neither_command_imports_a_framework_or_loads_what_it_compares(tmp_path):
    kernels = np.random.default_rng(3).standard_normal((12, 1 << 20), np.float32)  # 4 MB each
    layers = {f"layers_{index}": {"w": kernel} for index, kernel in enumerate(kernels)}
    save_tree(tmp_path / "left", {"params": {"params": {"decoder": layers}}, "step": np.int32(3)})
    shutil.copytree(tmp_path / "left", tmp_path / "right")
    kernels[7, 5] += 1
    save_tree(tmp_path / "other", {"params": {"params": {"decoder": layers}}, "step": np.int32(3)})
    command = [sys.executable, "-c", PROGRAM, *(str(tmp_path / name) for name in ("left", "right", "other"))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    peak, found = done.stdout.splitlines()[-1].split(maxsplit=1)
    assert found == "[0, 1, 0, 0] []"
    assert int(peak) / 1024 < 120  # MB; each side has 48 of them
