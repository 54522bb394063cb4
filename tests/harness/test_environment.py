"""What an observation says about the process that it was made in."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import flax
import jax
import numpy as np
import pytest

from harness.environment import current, version

ROOT = Path(__file__).resolve().parents[2]


def test_this_process():
    here = current()
    assert here.python == platform.python_version()
    assert (here.jax, here.flax, here.numpy) == (jax.__version__, flax.__version__, np.__version__)
    assert here.jaxlib == jax.lib.__version__
    assert (here.platform, here.x64) == (jax.default_backend(), jax.config.jax_enable_x64)
    assert here.device == f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    assert here.xla_flags == os.environ.get("XLA_FLAGS", "")
    assert here.prng == str(jax.config.jax_default_prng_impl)
    assert "absent" not in (here.optax, here.orbax)


def test_it_is_read_once():
    assert current() is current()


def test_versions_of_packages():
    assert version("numpy") == np.__version__
    assert version("no-package-is-called-this") == "absent"


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git to ask for the commit")
def test_the_commit_is_the_checkouts():
    words = ["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]
    asked = subprocess.run(words, capture_output=True, text=True, check=False)
    assert current().commit.removesuffix("+") == asked.stdout.strip()


SAY = """
import dataclasses, json
from harness.environment import current
print(json.dumps(dataclasses.asdict(current())))
"""


def test_what_the_surroundings_set_is_told():
    surroundings = {
        "JAX_ENABLE_X64": "1",
        "JAX_DEFAULT_MATMUL_PRECISION": "float32",
        "JAX_DEFAULT_PRNG_IMPL": "rbg",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=3",
        "JAX_PLATFORMS": "cpu",
        "PATH": "",  # no git: the commit is unknown, which is no error
    }
    done = subprocess.run(
        [sys.executable, "-c", SAY],
        cwd=ROOT,
        env={**os.environ, **surroundings},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert (found["x64"], found["matmul_precision"], found["prng"]) == (True, "float32", "rbg")
    assert (found["xla_flags"], found["device"]) == (surroundings["XLA_FLAGS"], "3 x cpu")
    assert (found["platform"], found["commit"]) == ("cpu", "")
    usual = current()
    assert (found["jax"], found["flax"], found["python"]) == (usual.jax, usual.flax, usual.python)
