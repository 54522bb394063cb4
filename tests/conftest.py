"""Tests run on the CPU unless JAX_PLATFORMS says otherwise, and say in their first lines what they run on."""

from __future__ import annotations

import os
import tempfile
from importlib.metadata import version

os.environ.setdefault("JAX_PLATFORMS", "cpu")
_VERDICTS = tempfile.TemporaryDirectory(prefix="harness-tests-")
# No test reads or leaves a verdict in the user's own cache.
os.environ["HARNESS_CACHE"] = _VERDICTS.name


def pytest_report_header() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint"))
    return f"{packages} on {os.environ['JAX_PLATFORMS']}"
