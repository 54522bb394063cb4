"""In the worker: a case as `harness.verify` judges it, and a note for the parent on the code that it ran."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

from harness.aside import write
from harness.cache.code import roots
from harness.discover import Ticket
from harness.verdict import Verdict

__all__ = ["noted", "noted_roots", "verify"]


def verify(ticket: Ticket, goldens: Path, notes: Path) -> Verdict:
    """`harness.verify.verify`, with a note left in the folder `notes`."""
    from harness.verify import verify as judge

    return noted(judge, ticket, goldens, notes)


def noted(judge: Callable[[Ticket, Path, Path], Verdict], ticket: Ticket, goldens: Path, notes: Path) -> Verdict:
    """The verdict of `judge`, which leaves no candidate; if it passes, `notes` learns where the loaded code lies."""
    verdict = judge(ticket, goldens, Path(""))
    if verdict.passed:
        write(_path(notes, ticket.case), json.dumps(roots(sys.modules, ticket.scenario)).encode())
    return verdict


def noted_roots(notes: Path, case: str) -> tuple[str, ...]:
    """The roots of the code that a case ran, () if no note of it can be read."""
    try:
        return tuple(map(str, json.loads(_path(notes, case).read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError):
        return ()


def _path(notes: Path, case: str) -> Path:
    return notes / f"{hashlib.sha256(case.encode()).hexdigest()[:24]}.json"
