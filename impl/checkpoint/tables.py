"""Rows as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["table"]


def table(rows: Sequence[Sequence[Any]], headers: Sequence[str] = (), tablefmt: str = "simple") -> str:
    """The rows under each other in columns, everything as it is written."""
    # Takes 5 MB, which work that tells nothing yet is better without.
    from tabulate import tabulate

    return tabulate(rows, headers=headers, tablefmt=tablefmt, disable_numparse=True)
