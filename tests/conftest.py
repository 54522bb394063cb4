"""Tests run on the CPU unless JAX_PLATFORMS says otherwise, and say in their first lines what they run on."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
_VERDICTS = tempfile.TemporaryDirectory(prefix="harness-tests-")
# No test reads or leaves a verdict in the user's own cache.
os.environ["HARNESS_CACHE"] = _VERDICTS.name


def pytest_report_header() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint"))
    return f"{packages} on {os.environ['JAX_PLATFORMS']}"


@pytest.fixture(scope="session")
def maxtext() -> Callable[[str], Path]:
    """Name of a folder of files that MaxText wrote -> the folder. They are not ours to keep: without them, a skip."""

    def folder(name: str) -> Path:
        data = os.environ.get("HARNESS_DATA")
        if not data:
            pytest.skip(f"HARNESS_DATA is not set: it names the folder with maxtext/{name}")
        return Path(data) / "maxtext" / name

    return folder
