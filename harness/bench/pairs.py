"""Two things timed in turn, A B A B..., so that a machine that drifts drifts for both."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Ratio", "alternate", "ratio"]


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """B over A, pair by pair: median, and the least and largest of them. a, b: median seconds of each."""

    median: float
    low: float
    high: float
    a: float
    b: float
    rounds: int


def ratio(first: list[float], second: list[float]) -> Ratio:
    """The ratio of two series that were measured in turn."""
    ratios = [b / a for a, b in zip(first, second, strict=True)]
    return Ratio(
        median=statistics.median(ratios),
        low=min(ratios),
        high=max(ratios),
        a=statistics.median(first),
        b=statistics.median(second),
        rounds=len(ratios),
    )


def alternate(first: Callable[[], float], second: Callable[[], float], rounds: int) -> Ratio:
    """Call both in turn `rounds` times, the first pair not counted. Each returns the seconds that count."""
    first(), second()
    pairs = []
    for index in range(rounds):
        # The one that goes first alternates too: what runs second finds warmer caches.
        pairs.append((first(), second()) if index % 2 == 0 else (second(), first())[::-1])
    return ratio([a for a, _ in pairs], [b for _, b in pairs])
