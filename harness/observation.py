"""What one run showed: values by channel, the error if there was one, and evidence of what ran. All frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

__all__ = ["CHANNELS", "Attestation", "Environment", "Failure", "Observation", "Values"]

Values = Mapping[str, np.ndarray]
"""Neutral name -> array, in forward order (the order decides which difference is called the first)."""

CHANNELS: tuple[str, ...] = (
    "structure",
    "claims",
    "intermediates",
    "outputs",
    "loss",
    "gradients",
    "updates",
    "state",
    "shardings",
    "graph",
    "resources",
    "disk",
)
"""Every channel that may be observed, in the order in which a first divergence is looked for."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An error as a value. `kind` is the exception's class name, `where` the traceback's text (never compared)."""

    kind: str
    message: str
    where: str = ""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Everything outside the scenario that may change a number."""

    python: str
    jax: str
    jaxlib: str
    flax: str
    optax: str
    orbax: str
    numpy: str
    platform: str
    device: str
    machine: str
    x64: bool
    matmul_precision: str
    prng: str
    xla_flags: str
    commit: str


@dataclass(frozen=True, kw_only=True)
class Attestation:
    """Evidence of what ran. `modules` maps framework ("linen", "nnx") to the module classes whose methods were traced.

    Classes that ship with Flax are listed too; `own` is the part that does not: a side's own classes.
    """

    modules: Mapping[str, tuple[str, ...]]
    own: tuple[str, ...]
    config_digest: str


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One run of one program on one side. `precision` is the dtype it computes in, if the pair tells.

    `channels` is channel -> Values; unobserved channels are absent, never empty.

    The channel "claims" holds 0-d booleans that must be true on every side whatever the other side says: a loss term
    is not trivially zero, two steps drew different masks. Equal values prove nothing while a claim is false.
    """

    who: str
    program: str
    channels: Mapping[str, Values]
    seconds: float
    environment: Environment
    error: Failure | None = None
    attestation: Attestation | None = None
    case_digest: str = ""
    precision: str = ""
    notes: tuple[str, ...] = field(default=())
