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
code = obeyed(sys.argv[1:])
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(code, peak, *[name for name in ("jax", "flax", "optax", "orbax") if name in sys.modules])
"""


def run(*words):
    """Exit code, peak memory in MB and what was imported, of the command line `words` in a process of its own."""
    command = [sys.executable, "-c", PROGRAM, *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    code, peak, *heavy = done.stdout.splitlines()[-1].split()
    return int(code), int(peak) / 1024, heavy


def test_neither_command_imports_a_framework_or_loads_what_it_compares(tmp_path):
    kernels = np.random.default_rng(3).standard_normal((12, 1 << 20), np.float32)  # 4 MB each
    layers = {f"layers_{index}": {"w": kernel} for index, kernel in enumerate(kernels)}
    save_tree(tmp_path / "left", {"params": {"params": {"decoder": layers}}, "step": np.int32(3)})
    shutil.copytree(tmp_path / "left", tmp_path / "right")
    code, peak, heavy = run("compare", "--values", tmp_path / "left", tmp_path / "right")
    assert (code, heavy) == (0, [])
    assert peak < 120
    kernels[7, 5] += 1
    save_tree(tmp_path / "other", {"params": {"params": {"decoder": layers}}, "step": np.int32(3)})
    code, peak, heavy = run("compare", "--values", tmp_path / "left", tmp_path / "other")
    assert (code, heavy) == (1, [])
    assert peak < 120
    code, peak, heavy = run("checksum", tmp_path / "left")
    assert (code, heavy) == (0, [])
    assert peak < 120
    code, peak, heavy = run("checksum", tmp_path / "left", "--check")
    assert (code, heavy) == (0, [])
    assert peak < 100
