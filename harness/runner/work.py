"""What a run of many cases is made of: the function that judges one ticket, and what happens meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from harness.verdict import Verdict

__all__ = ["Event", "Work", "sharded"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Work:
    """What every worker does with a ticket: function(ticket, goldens, pending) -> Verdict.

    function: "module:name", imported in the worker. goldens, pending: folders; "" means no folder.
    preload: modules imported before the first case, so that no case pays for them out of its own seconds.
    """

    goldens: str
    pending: str = ""
    function: str = "harness.verify:verify"
    preload: tuple[str, ...] = ("jax",)


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something happened to `case`. "again": it failed in a worker that had served other cases, so a fresh one tries.

    running: cases under way now, in the order they were given out. done of total are finished.
    """

    kind: Literal["started", "finished", "again"]
    case: str
    running: tuple[str, ...]
    done: int
    total: int
    verdict: Verdict | None = None


def sharded(items: Sequence[T], shard: str) -> tuple[T, ...]:
    """Every n-th item, from the i-th on, for the shard "i/n" (1 <= i <= n). Together the shards miss nothing.

    Raises ValueError for anything else than two such numbers.
    """
    first, slash, count = shard.partition("/")
    if not (slash and first.isdecimal() and count.isdecimal() and 1 <= int(first) <= int(count)):
        raise ValueError(f"shard {shard!r}: write i/n with 1 <= i <= n, for example 2/5 for the second of five")
    return tuple(items[int(first) - 1 :: int(count)])
