"""Observations made by hand, so that the pure middle of the harness is tested in milliseconds and without JAX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from harness.observation import Attestation, Environment, Failure, Observation

__all__ = ["ENVIRONMENT", "failed", "generic", "observation"]

ENVIRONMENT = Environment(
    python="3.11.9",
    jax="0.10.2",
    jaxlib="0.10.2",
    flax="0.12.8",
    optax="0.2.8",
    orbax="0.12.8",
    numpy="2.4.6",
    platform="cpu",
    device="TFRT_CPU_0",
    machine="x86_64",
    x64=False,
    matmul_precision="highest",
    prng="threefry2x32",
    xla_flags="",
    commit="f78af0c",
)


def generic(shape: tuple[int, ...], dtype: object = np.float32, seed: int = 7) -> np.ndarray:
    """Values without zeros, ones, order or symmetry."""
    drawn = np.random.default_rng(seed).normal(0.3, 1.7, shape)
    return (drawn * 1000).astype(dtype) if np.dtype(dtype).kind in "iu" else drawn.astype(dtype)


def observation(channels: Mapping[str, Mapping[str, object]], who: str = "linen") -> Observation:
    """One run of `who`; values become arrays as NumPy makes them."""
    return Observation(
        who=who,
        program="forward",
        channels={c: {name: np.asarray(value) for name, value in values.items()} for c, values in channels.items()},
        seconds=0.25,
        environment=ENVIRONMENT,
        attestation=Attestation(
            modules={who: (f"impl.{who}.Decoder", f"flax.{who}.Dense")},
            own=(f"impl.{who}.Decoder",),
            config_digest="c0ffee",
        ),
        case_digest="d1" * 32,
    )


def failed(seen: Observation, kind: str, message: str) -> Observation:
    """The same run, ended by an error before it showed anything."""
    return replace(seen, channels={}, error=Failure(kind=kind, message=message, where=f"trace of {seen.who}"))
