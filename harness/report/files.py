"""Writing a report: a target that cannot be written is found before the run, and no reader sees half a file."""

from __future__ import annotations

import os
from pathlib import Path

from harness import aside

__all__ = ["ReportError", "check_target", "write"]


class ReportError(ValueError):
    """A place where a report cannot be written. The message names it and the cure."""


def check_target(path: Path) -> None:
    """Raises ReportError if a report cannot be written to `path`. Creates nothing."""
    if path.is_dir():
        raise ReportError(f"{path} is a folder: name a file in it, for example {path / 'report'}")
    parent = path.absolute().parent
    if not parent.is_dir():
        raise ReportError(f"{parent} does not exist: create it (mkdir -p {parent}) or write the report elsewhere")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ReportError(f"{parent} may not be written to: change its permissions or write the report elsewhere")


def write(path: Path, text: str) -> None:
    """Writes `text` as UTF-8. What UTF-8 cannot hold (a lone surrogate in a name) is written as its escape."""
    aside.write(path, text.encode("utf-8", errors="backslashreplace"))
