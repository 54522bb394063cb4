"""What a worker runs on, and which of it changes numbers. Facts are asked of JAX; warnings follow from facts alone."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from harness.environment import version
from harness.runner.surroundings import cache_folder

__all__ = ["SENTINEL", "Caution", "facts", "tell", "warnings_of"]

SENTINEL = "\x1eharness facts\x1e"
"""Precedes the facts on standard output, where plugins may have printed before."""

TESTED = {"jax": ((0, 10, 2), (0, 13)), "jaxlib": ((0, 10, 2), (0, 13)), "flax": ((0, 12, 8), (0, 13))}
"""Package -> first version that is tested, and the first that is not."""

CHANGING_FLAGS = ("fast_math", "fast_min_max", "deterministic", "allow_excess_precision", "gemm", "tf32", "autotune")
"""Parts of the names of XLA flags that are known to change results."""


@dataclass(frozen=True, kw_only=True)
class Caution:
    """Something that may change a number or spoil a run, and what to do about it."""

    what: str
    cure: str


def tell() -> None:
    """Prints the facts as JSON after the sentinel."""
    print(SENTINEL + json.dumps(facts()))


def facts() -> dict[str, Any]:
    """Name -> string, number, boolean or list of strings. Imports jax and asks it for its devices."""
    import jax

    folder = cache_folder(os.environ)
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    devices, settings = jax.devices(), jax.config.values
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": psutil.cpu_count() or 0,
        "memory GiB free": round(psutil.virtual_memory().available / 2**30, 1),
        **{name: version(name) for name in packages},
        "platform": devices[0].platform,
        "devices": [f"{device.id}: {device.device_kind}" for device in devices],
        "x64": bool(settings["jax_enable_x64"]),
        "matmul precision": str(settings["jax_default_matmul_precision"]),
        "prng": str(settings["jax_default_prng_impl"]),
        "prng partitionable": bool(settings["jax_threefry_partitionable"]),
        "jit disabled": bool(settings["jax_disable_jit"]),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", ""),
        "compilation cache": str(folder),
        "compilation cache writable": _writable(folder),
        "accelerator seen": sorted(str(path) for path in Path("/dev").glob("nvidia[0-9]*"))
        + sorted(str(path) for path in Path("/dev").glob("accel[0-9]*")),
    }


def warnings_of(found: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[Caution, ...]:
    """The warnings that facts and the user's environment variables give rise to."""
    if "error" in found:
        cure = "mend the installation, or choose another platform with JAX_PLATFORMS"
        return (Caution(what=str(found["error"]), cure=cure),)
    return (*_versions(found), *_numbers(found, environment), *_spoilers(found, environment))


def _versions(found: Mapping[str, Any]) -> Iterator[Caution]:
    for name, (first, beyond) in TESTED.items():
        text = str(found.get(name, "absent"))
        if not first <= _numeric(text) < beyond:
            low, high = (".".join(map(str, numbers)) for numbers in (first, beyond))
            yield Caution(
                what=f"{name} is {text}; tested is {low} up to {high}", cure=f'pip install "{name}>={low},<{high}"'
            )
    if _numeric(str(found["jax"]))[:3] != _numeric(str(found["jaxlib"]))[:3]:
        what = f"jax {found['jax']} and jaxlib {found['jaxlib']} are of different releases"
        yield Caution(what=what, cure=f"pip install jaxlib=={found['jax']}")


def _numbers(found: Mapping[str, Any], environment: Mapping[str, str]) -> Iterator[Caution]:
    """What makes two correct runs give different numbers."""
    if found["x64"]:
        yield Caution(what="x64 is on: untyped numbers are 64 bits wide", cure="unset JAX_ENABLE_X64")
    precision, set_high = found["matmul precision"], ("highest", "float32")
    if found["platform"] in ("gpu", "cuda", "rocm", "tpu") and precision not in set_high:
        what = f"matmul precision is {precision} on {found['platform']}: float32 products are rounded to fewer bits"
        yield Caution(what=what, cure="JAX_DEFAULT_MATMUL_PRECISION=highest")
    if tf32 := environment.get("NVIDIA_TF32_OVERRIDE"):
        what = f"NVIDIA_TF32_OVERRIDE={tf32} overrules what JAX asks for"
        yield Caution(what=what, cure="unset NVIDIA_TF32_OVERRIDE")
    if found["prng"] != "threefry2x32":
        what = f"random keys are {found['prng']}: masks differ from those of the goldens, and from device to device"
        yield Caution(what=what, cure="unset JAX_DEFAULT_PRNG_IMPL")
    if not found["prng partitionable"]:
        what = "random bits depend on how arrays are sharded"
        yield Caution(what=what, cure="unset JAX_THREEFRY_PARTITIONABLE")
    flags = [flag for flag in str(found["XLA_FLAGS"]).split() if any(part in flag for part in CHANGING_FLAGS)]
    if flags:
        what = f"XLA_FLAGS holds {' '.join(flags)}, known to change results"
        yield Caution(what=what, cure="take it out of XLA_FLAGS, or write the reason into the goldens' review")


def _spoilers(found: Mapping[str, Any], environment: Mapping[str, str]) -> Iterator[Caution]:
    """What makes a run slow, empty, or about something else than the user thinks."""
    if found["jit disabled"]:
        yield Caution(what="jit is disabled: nothing is compiled as in production", cure="unset JAX_DISABLE_JIT")
    if found["accelerator seen"] and "JAX_PLATFORMS" not in environment:
        what = "there is an accelerator, but workers run on the CPU unless told otherwise"
        yield Caution(what=what, cure="JAX_PLATFORMS=cuda (or tpu), if the accelerator is meant")
    if not found["compilation cache writable"]:
        what = f"{found['compilation cache']} cannot be written: every run compiles everything again"
        yield Caution(what=what, cure="set JAX_COMPILATION_CACHE_DIR to a folder of yours")
    if found["memory GiB free"] < 4:
        what = f"only {found['memory GiB free']} GiB of memory are free"
        yield Caution(what=what, cure="pass --jobs 1, and --memory to end large cases early")


def _numeric(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:4])


def _writable(folder: Path) -> bool:
    """Whether files can be made in `folder`, or the folder itself in the nearest parent that exists."""
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
