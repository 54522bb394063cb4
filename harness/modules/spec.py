"""What a user declares: the Linen module, the NNX module, and the task on which they are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import numpy as np
import optax
from flax import nnx

from harness.allowance import Allowance
from harness.rearranged import Rearranged, as_they_are

__all__ = ["Batch", "LinenModel", "NnxModel", "Task"]

Batch = Mapping[str, Any]
"""Input name -> array of one step, as `Task.inputs` drew it."""


@dataclass(frozen=True, kw_only=True)
class LinenModel:
    """module: the unbound Linen module. train, evaluate: how it is called in each mode, the mode's arguments included:

    `train=lambda model, batch: model(batch["x"], train=True)`. Give the same function twice if there are no modes.
    bridged: it holds NNX modules on purpose (`flax.nnx.bridge`), partly migrated as it is. Else a run that traces any
        is refused.
    """

    module: nn.Module
    train: Callable[[Any, Batch], Any]
    evaluate: Callable[[Any, Batch], Any]
    bridged: bool = False


def _train_mode(model: nnx.Module) -> None:
    model.train()


def _eval_mode(model: nnx.Module) -> None:
    model.eval()


@dataclass(frozen=True, kw_only=True)
class NnxModel:
    """create: makes the module out of its rngs. call: how it is called. train, evaluate: how its mode is set.

    rearranged: Linen's leaves by name ("params/q/kernel") -> this module's that are made of those it reads, where one
        side fuses, reshapes or transposes: `lambda linen: {"params/qk/kernel": np.concatenate(...)}`. It may reshape,
        transpose, concatenate and slice; all that it does not read goes by its name.
    bridged: it holds Linen modules on purpose, as in `LinenModel`.
    """

    create: Callable[[nnx.Rngs], nnx.Module]
    call: Callable[[Any, Batch], Any]
    train: Callable[[Any], None] = _train_mode
    evaluate: Callable[[Any], None] = _eval_mode
    rearranged: Rearranged = as_they_are
    bridged: bool = False


@dataclass(frozen=True, kw_only=True)
class Task:
    """inputs: draws one batch, name -> array; generic values, unequal sizes for unequal axes.

    loss: (output, batch) -> term name -> scalar; the loss is their sum.
    optimizer: makes the optax transformation. steps: optimizer steps, each on a batch of its own; at least 2.
    rngs: Linen's random streams other than "params" (NNX's are made by the module itself).
    allow: program -> what may differ in it, each with its reason; exact otherwise.
    """

    inputs: Callable[[np.random.Generator], Mapping[str, np.ndarray]]
    loss: Callable[[Any, Batch], Mapping[str, Any]]
    optimizer: Callable[[], optax.GradientTransformation]
    steps: int = 3
    rngs: tuple[str, ...] = ("dropout",)
    allow: Mapping[str, tuple[Allowance, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ValueError(f"steps={self.steps}: give at least 2, so that a claim can compare two batches")
