"""What a user typed that cannot be done, and how close they came."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable
from typing import Any

__all__ = ["Joined", "UsageError", "count", "positive", "unknown", "whole"]


MOST = 20
"""Names that an error lists before it only counts them."""


class UsageError(ValueError):
    """A request that cannot be carried out as typed. The message says why and what to type. Exit code 2."""


class Joined(argparse.Action):
    """An option of names with commas that may be given again: the later names join the earlier ones."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = "") -> None:
        """As argparse calls it."""
        given = f"{self.dest}_given"
        names = [*getattr(namespace, given, ()), values]
        setattr(namespace, given, names)
        setattr(namespace, self.dest, ",".join(names))


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that does not exist, with the nearest ones that do, or the first of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    first = ", ".join(names[:MOST]) or "none"
    told = first if len(names) <= MOST else f"{first}, and {len(names) - MOST} more"
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {told}"
    return UsageError(f"no {kind} is called {name!r}: {hint}")


def count(text: str) -> int:
    """A whole number from 1 on, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def whole(text: str) -> int:
    """A whole number from 0 on, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def positive(text: str) -> float:
    """A finite number above 0, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value
