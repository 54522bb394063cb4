"""What statistics of quantised products must do in training, told from the weights and histories of every step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from impl.config import ModelConfig
from impl.statistics import LEAVES

__all__ = ["Seen", "claims", "look", "state"]

Values = Mapping[str, np.ndarray]

_LARGEST = {
    "fp8": (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2),
    "fp8_gpu": (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2),
    "fp8_nanoo": (ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e5m2fnuz),
}
"""Flavour -> formats of operands and of gradients."""


class Seen(NamedTuple):
    """Between two steps: statistics and weights by neutral name."""

    statistics: Values
    weights: Values


def look(trainer: Any) -> Seen:
    """What `trainer` holds now."""
    return Seen(trainer.statistics(), trainer.weights())


def state(seen: Sequence[Seen]) -> dict[str, np.ndarray]:
    """Statistics before the first step and after each, by name."""
    moments = ["start", *(f"step{step}" for step in range(len(seen) - 1))]
    return {
        f"{moment}/{name}": value
        for moment, each in zip(moments, seen, strict=True)
        for name, value in each.statistics.items()
    }


def claims(config: ModelConfig, seen: Sequence[Seen], slots: Iterable[str]) -> dict[str, np.bool_]:
    """What must hold on a side by itself, `seen` being what it held before the first step and after each.

    A kernel's amax and every scale are calculated again here, to the bit: a statistic that was scaled down with the
    gradients, or took a step instead of being replaced, could not be what it is calculated to be.
    """
    first, last = seen[0].statistics, seen[-1].statistics
    pairs = list(pairwise(seen))
    histories, scales = ([name for name in first if name.endswith(end)] for end in ("amax_history", "scale"))
    told = {
        "there are statistics": bool(first),
        "every amax history moved": all(not np.array_equal(first[name], last[name]) for name in histories),
        "no amax history is empty after a step": all(seen[1].statistics[name].any() for name in histories),
        "no scale is 1 after the steps": all(last[name] != 1.0 for name in scales),
        "kernels' amaxes are those of the kernels": all(_amaxes(config, *pair) for pair in pairs),
        "histories turn by one": all(_turned(before, after, name) for before, after in pairs for name in histories),
        "scales follow from the histories before the step": all(
            _scaled(config, before, after, name) for before, after in pairs for name in scales
        ),
        "the optimizer has no slot for a statistic": not any(slot.endswith(LEAVES) for slot in slots),
        "no statistic is a parameter": not any(name.endswith(LEAVES) for name in seen[0].weights),
    }
    return {name: np.bool_(held) for name, held in told.items()}


def _amaxes(config: ModelConfig, before: Seen, after: Seen) -> bool:
    """Whether the newest amax of every kernel is that of the kernel which the step used."""
    ending = "/dot_general/kernel_amax_history"
    newest = {name.removesuffix(ending): value[0] for name, value in after.statistics.items() if name.endswith(ending)}
    used = {name: before.weights[f"{name}/kernel"].astype(np.dtype(config.dtype)) for name in newest}
    return all(newest[name] == np.abs(used[name]).max().astype(np.float32) for name in newest)


def _turned(before: Seen, after: Seen, name: str) -> bool:
    """Whether a history lost its oldest amax (at 1, or the only one) and kept the others in their order."""
    return np.array_equal(after.statistics[name][1:], np.roll(before.statistics[name], -1)[1:])


def _scaled(config: ModelConfig, before: Seen, after: Seen, name: str) -> bool:
    """Whether a scale brings the largest amax before the step to the largest number of its format."""
    amax = before.statistics[name.removesuffix("scale") + "amax_history"].max()
    largest = ml_dtypes.finfo(_LARGEST[config.quantization]["output_grad" in name]).max
    scale = before.statistics[name] if amax == 0 else np.float32(1) / (np.float32(largest) / amax)
    return bool(np.all(np.abs(after.statistics[name] - scale) <= np.spacing(scale)))
