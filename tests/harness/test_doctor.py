"""The doctor tells what a worker sees, and warns of what changes numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.doctor import warnings_of

ROOT = Path(__file__).resolve().parents[2]


def test_the_doctor_tells_what_workers_see():
    line = [sys.executable, "-m", "harness.cli", "doctor", "--json"]
    answer = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=True)
    content = json.loads(answer.stdout)
    assert content["version"] == 1
    assert content["facts"]["platform"] in ("cpu", "gpu", "tpu")
    assert content["facts"]["python"].split(".")[:2] == [str(number) for number in sys.version_info[:2]]


FACTS = {
    "jax": "0.10.2", "jaxlib": "0.10.2", "flax": "0.12.8", "platform": "cpu", "x64": False,
    "matmul precision": "None", "prng": "threefry2x32", "prng partitionable": True, "jit disabled": False,
    "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "compilation cache": "/c",
    "compilation cache writable": True, "accelerator seen": [], "memory GiB free": 20.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "environment", "words"),
    [
        ({"jax": "0.13.1", "jaxlib": "0.13.1"}, {}, ["jax is 0.13.1; tested is 0.10.2 up to 0.13", "jaxlib is 0.13.1"]),
        ({"flax": "absent"}, {}, ["flax is absent"]),
        ({"jaxlib": "0.11.0"}, {}, ["different releases"]),
        ({"x64": True}, {}, ["x64 is on"]),
        ({"platform": "gpu"}, {}, ["matmul precision is None on gpu"]),
        ({"platform": "gpu", "matmul precision": "highest"}, {}, []),
        ({"platform": "tpu", "matmul precision": "float32"}, {"NVIDIA_TF32_OVERRIDE": "1"}, ["TF32_OVERRIDE=1"]),
        ({"prng": "rbg"}, {}, ["random keys are rbg"]),
        ({"prng partitionable": False}, {}, ["depend on how arrays are sharded"]),
        ({"XLA_FLAGS": "--xla_cpu_enable_fast_math=true --xla_dump_to=/d"}, {}, ["--xla_cpu_enable_fast_math=true,"]),
        ({"jit disabled": True}, {}, ["jit is disabled"]),
        ({"accelerator seen": ["/dev/nvidia0"]}, {}, ["workers run on the CPU"]),
        ({"accelerator seen": ["/dev/nvidia0"]}, {"JAX_PLATFORMS": "cpu"}, []),
        ({"compilation cache writable": False}, {}, ["/c cannot be written"]),
        ({"memory GiB free": 1.5}, {}, ["only 1.5 GiB"]),
        ({"error": "JAX cannot be used"}, {}, ["JAX cannot be used"]),
        ({}, {}, []),
    ],
)
def test_the_doctor_warns_of_what_changes_numbers(facts, environment, words):
    warnings = warnings_of({**FACTS, **facts}, environment)
    assert len(warnings) == len(words)
    assert all(word in warning.what for word, warning in zip(words, warnings, strict=True))
    assert all(warning.cure for warning in warnings)
