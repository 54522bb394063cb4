"""What still differs in the results when every module was handed the same values. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from harness import noise
from harness.causes import Cause, Way
from harness.comparison import Comparison
from harness.difference import Difference
from harness.distance import family
from harness.locate import LOSS, born
from harness.observation import Observation

__all__ = ["with_leaves"]

_OWN = ("gradients", "state")


def with_leaves(found: Sequence[Cause], parity: Comparison, left: Observation, alone: Sequence[str]) -> list[Cause]:
    """`found`, and the modules whose own gradients or state still differ; or, if there is no other cause, the place
    after all modules where the results part.

    A gradient of every leaf at once is no module's. What belongs to a module that could not be paired (`alone`) follows
    from its caller.
    """
    differing = [each for each in parity.differences if each.allowed_by is None and not _signs(each)]
    by_channel = {channel: [each for each in differing if each.channel == channel] for channel in parity.channels}
    whole = {channel for channel, counts in parity.channels.items() if len(by_channel[channel]) == counts.expected > 1}
    result = list(found)
    for channel in _OWN:
        for each in by_channel.get(channel, ()) if channel not in whole else ():
            _add(result, each, left, alone)
    if result or not differing:
        return result
    place = born(parity, after=LOSS)
    way: Way = "updates" if differing[0].channel == "updates" else "loss"
    return [_cause(place, way, differing[0], left)] if place else []


def _signs(each: Difference) -> bool:
    """Whether a 0 and a -0 are all that differs."""
    return each.reason == "value" and each.max_abs == 0.0


def _add(result: list[Cause], each: Difference, left: Observation, alone: Sequence[str]) -> None:
    module = each.name.rpartition("/")[0]
    if _unnumbered(module) in {_unnumbered(name) for name in alone}:
        return
    for at, cause in enumerate(result):
        if _unnumbered(cause.module) == _unnumbered(module):
            ways: tuple[Way, ...] = (*cause.ways, "leaf")
            others = (*cause.others, *((module,) if module != cause.module else ()))
            result[at] = replace(cause, ways=tuple(dict.fromkeys(ways)), others=tuple(dict.fromkeys(others)))
            return
    result.append(_cause(module, "leaf", each, left))


def _cause(module: str, way: Way, each: Difference, left: Observation) -> Cause:
    value = np.asarray(left.channels.get(each.channel, {}).get(each.name, np.zeros(())))
    real = each.reason == "value" and family(value.dtype) == "float"
    top = noise.largest(value) if family(value.dtype) != "text" and value.dtype.kind not in "US" else 0.0
    near = real and each.max_abs <= noise.room(value.dtype) * noise.spacing(value)
    seen = f"{each.channel}/{each.name}"
    return Cause(module=module, ways=(way,), seen=seen, others=(), size=each.max_abs, top=top, rounding=near)


def _unnumbered(module: str) -> tuple[str, ...]:
    words = (word.rpartition("_") for word in module.split("/") if not word.isdigit())
    return tuple(head if head and tail.isdigit() else f"{head}{bar}{tail}" for head, bar, tail in words)
