"""How long work tells of its progress."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Watch", "untold"]

Watch = Callable[[int, int], None]
"""Told of bytes when they have been moved, and of how many there are in all."""


def untold(count: int, total: int) -> None:
    """Tells nobody."""
