"""What either framework must be able to do for a module pair. Arrays travel as each side stores them, see `Key`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np

from harness.modules.spec import Batch
from harness.names import Key, Leaf

__all__ = [
    "COUNT",
    "MASK_CALLS",
    "Drop",
    "Engine",
    "Masks",
    "Mode",
    "Slots",
    "Step",
    "Stored",
    "Taps",
    "Traces",
    "host",
    "key_parts",
    "total",
]

Mode = Literal["train", "eval", "dropout"]
"""How a module is called. "train": with dropout off, since both frameworks draw keys of their own; "dropout": with it
on, for runs in which one side draws with the other's keys."""

Stored = Mapping[Key, np.ndarray]
MASK_CALLS = 8
"""Train calls from which dropout is judged: enough draws to tell a wrong rate even in a small module."""

COUNT = ("step",)
"""The place among the slots of the number of steps made, int32."""

Slots = Mapping[tuple[str, ...], Any]
"""Path in the optax state -> array, and COUNT."""

Taps = dict[tuple[tuple[str, ...], str], tuple[Any, ...]]
"""(module path, name) -> what was sown there, call by call. The name "__call__" is the module's output."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """After one optimizer step. slots: path in the optax state -> array; step: the count that the side keeps."""

    terms: Mapping[str, Any]
    stored: Stored
    slots: Mapping[tuple[str, ...], np.ndarray]
    step: int


@dataclass(frozen=True, kw_only=True)
class Drop:
    """One dropout call: the rate, and what went in and came out (one value for each drawn bit)."""

    rate: float
    before: np.ndarray
    after: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Masks:
    """Outputs of calls one after the other, in train mode with dropout on and in eval mode, and the calls' drops."""

    train: tuple[Any, ...]
    evaluate: tuple[Any, ...]
    drops: tuple[Drop, ...]


@dataclass(frozen=True, kw_only=True)
class Traces:
    """What a program compiles, as functions of arrays that may be abstract; nothing is looked at on the host.

    call: (stored, batch, mode) -> output and what is stored afterwards. grad: the same -> terms and gradients.
    start: stored -> slots. step: (stored, slots, batch) -> terms, stored, slots; the step itself is the slot COUNT.
    """

    call: Callable[[Any, Any, Mode], tuple[Any, Any]]
    grad: Callable[[Any, Any, Mode], tuple[Any, Any]]
    start: Callable[[Any], Slots]
    step: Callable[[Any, Slots, Any], tuple[Any, Any, Slots]]


@dataclass(frozen=True, kw_only=True)
class Engine:
    """One framework's verbs for one module. Nothing given is changed; everything returned is a NumPy copy.

    leaves: what the module stores, in forward order as far as known. rates: rates of its dropouts, sorted, each once.
    tapped: keys of `taps`, traced abstractly. call: one jitted call, and what is stored afterwards.
    grad: terms and gradients of one call. train: one `Step` for each batch. masks, taps: run without jit.
    traces: what call, grad and train compile.
    """

    name: str
    leaves: Callable[[Batch], dict[Key, Leaf]]
    rates: Callable[[Batch], tuple[float, ...]]
    tapped: Callable[[Batch], tuple[tuple[tuple[str, ...], str], ...]]
    call: Callable[[Stored, Batch, Mode], tuple[Any, Stored]]
    grad: Callable[[Stored, Batch, Mode], tuple[Mapping[str, Any], Stored]]
    train: Callable[[Stored, Sequence[Batch]], list[Step]]
    masks: Callable[[Stored, Batch], Masks]
    taps: Callable[[Stored, Batch, Mode], Taps]
    traces: Traces


def host(tree: Any) -> Any:
    """The same tree in NumPy. Copied, because a later step may donate or overwrite the buffers."""
    return jax.tree.map(np.array, tree)


def key_parts(path: tuple[Any, ...]) -> tuple[str, ...]:
    """A JAX key path as plain words: index, attribute name or dictionary key."""
    attributes = ("key", "idx", "name")
    return tuple(str(next(getattr(part, at) for at in attributes if hasattr(part, at))) for part in path)


def total(terms: Mapping[str, Any]) -> Any:
    """The loss: the sum of its terms, in the order in which the task names them."""
    values = list(terms.values())
    result = values[0]
    for value in values[1:]:
        result = result + value
    return result
