"""What this process runs on: read once, written into every observation."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from harness.observation import Environment

__all__ = ["current", "version"]


def version(package: str) -> str:
    """Installed version of `package`, or "absent"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


@functools.cache
def current() -> Environment:
    """This process's environment. Imports jax and asks it for its devices."""
    import jax

    device, settings = jax.devices()[0], jax.config.values
    return Environment(
        python=platform.python_version(),
        jax=version("jax"),
        jaxlib=version("jaxlib"),
        flax=version("flax"),
        optax=version("optax"),
        orbax=version("orbax-checkpoint"),
        numpy=version("numpy"),
        platform=device.platform,
        device=f"{jax.device_count()} x {device.device_kind}",
        machine=f"{platform.system()} {platform.machine()}",
        x64=bool(settings["jax_enable_x64"]),
        matmul_precision=str(settings["jax_default_matmul_precision"]),
        prng=str(settings["jax_default_prng_impl"]),
        xla_flags=os.environ.get("XLA_FLAGS", ""),
        commit=_commit(),
    )


def _commit() -> str:
    """The checkout's commit, with "+" if files were changed; empty outside a checkout."""
    here = Path(__file__).resolve().parent
    ask = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        answer = subprocess.run(ask, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
