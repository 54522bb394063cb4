"""The environment variables of a worker. The user's own settings always win."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["cache_folder", "surroundings", "with_devices"]

DEFAULTS = {
    "JAX_PLATFORMS": "cpu",
    # Small programs are cached too: a run consists of hundreds of them.
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # Sets are walked in one order by every worker, so that verdicts do not depend on who reached them.
    "PYTHONHASHSEED": "0",
    "PYTHONUNBUFFERED": "1",
}


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Where workers keep compiled programs between runs: JAX_COMPILATION_CACHE_DIR, else the user's cache folder."""
    if chosen := environment.get("JAX_COMPILATION_CACHE_DIR"):
        return Path(chosen)
    home = environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME") or Path.home()) / ".cache"
    return Path(home) / "linen-nnx-harness" / "jax"


def surroundings(environment: Mapping[str, str]) -> dict[str, str]:
    """A worker's environment, given the parent's."""
    return {**DEFAULTS, "JAX_COMPILATION_CACHE_DIR": str(cache_folder(environment)), **environment}


def with_devices(environment: Mapping[str, str], devices: int) -> dict[str, str]:
    """`environment` for a worker of `devices` devices: as it is for 1, else on the CPU, split into that many.

    A device that waits for the others in a collective keeps its thread. XLA takes as many threads as there are cores:
    with fewer than devices they may all wait for one that never gets its turn, and after 40 s XLA aborts the process
    (seen on 2 cores with 8 devices, one run in four). Two threads a device are enough.
    """
    if devices == 1:
        return dict(environment)
    flags = f"{environment.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    threads = str(max(2 * devices, os.cpu_count() or 1))
    return {"PJRT_NPROC": threads, **environment, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags.strip()}
