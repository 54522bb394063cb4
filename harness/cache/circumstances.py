"""All but the code and the case that may change a number: what is installed, the machine, the environment."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from harness.digest import of_settings
from harness.runner.surroundings import surroundings

__all__ = ["circumstances"]

PREFIXES = (
    *("CUDA_", "FLAX_", "GOTO_", "HIP_", "JAX_", "LIBTPU_", "MKL_", "NPY_", "NVIDIA_", "OMP_", "OPENBLAS_", "PYTHON"),
    *("ROCR_", "TF_", "TPU_", "XLA_"),
)
"""How the names of variables begin that change numbers, or which code is found."""

HARMLESS = (
    "JAX_COMPILATION_CACHE_DIR",
    "JAX_PERSISTENT_CACHE_",
    "JAX_LOG",
    "PYTHONDONTWRITE",
    "PYTHONUNBUFFERED",
    "TF_CPP_",
)
"""Those among them that only say where things are kept or told."""


def circumstances(environment: Mapping[str, str]) -> dict[str, str]:
    """Digests of "toolchain", "machine" and "environment", as workers that this process starts have them."""
    variables = surroundings(environment)
    told = {
        name: value for name, value in variables.items() if name.startswith(PREFIXES) and not name.startswith(HARMLESS)
    }
    return {
        "toolchain": of_settings({"python": sys.version, "installed": _installed()}),
        "machine": of_settings(_machine()),
        "environment": of_settings({"variables": told, "path": sys.path, "folder": os.getcwd()}),
    }


def _installed() -> list[tuple[str, str, str]]:
    """Name, version and list of files of everything installed: another build of one version has other files."""
    return sorted(
        (
            each.metadata["Name"] or "",
            each.version,
            hashlib.sha256((each.read_text("RECORD") or "").encode()).hexdigest(),
        )
        for each in metadata.distributions()
    )


def _machine() -> dict[str, object]:
    """The processor with all that its compiler may use, how many cores sums are split over, and accelerators."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cards = [*Path("/proc/driver/nvidia").glob("gpus/*/information"), Path("/proc/driver/nvidia/version")]
    told = [line for card in sorted(cards) for line in _lines(card) if line.startswith(("Model", "NVRM"))]
    processor = sorted(
        {line for line in _lines(Path("/proc/cpuinfo")) if line.startswith(("model", "flags", "Features"))}
    )
    names = (platform.system(), platform.machine(), platform.processor(), platform.libc_ver())
    return {"names": names, "processor": processor, "cores": cores, "cards": told}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
