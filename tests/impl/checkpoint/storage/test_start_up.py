"""The tools for checkpoints answer before anything heavy is imported."""

from __future__ import annotations

import subprocess
import sys

from tests.test_house import ROOT

HEAVY = ("jax", "flax", "optax", "orbax")


def loaded(program: str) -> list[str]:
    """Which of HEAVY a fresh interpreter has loaded after `program`."""
    program += f"\nimport sys\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()


def test_importing_the_tools_and_the_command_loads_no_framework():
    assert loaded("import impl.checkpoint, harness.cli; harness.cli.obeyed(['convert', '--help'])") == []
    assert loaded("import jax") == ["jax"]
