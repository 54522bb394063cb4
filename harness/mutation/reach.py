"""Whether given lines of one file are run, seen while something else runs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["Reach", "watched"]


class Reach:
    """yes: whether a line from `first` to `last` of `file` was run, or a function that begins there was called."""

    def __init__(self, file: Path, first: int, last: int):
        self.file, self.first, self.last = str(file), first, last
        self.yes = False

    def called(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        """For `sys.settrace`: follows the lines of functions of `file` only, until one is met."""
        if self.yes or frame.f_code.co_filename != self.file:
            return None
        return self._line(frame, event, argument)

    def _line(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
        self.yes = self.yes or self.first <= frame.f_lineno <= self.last
        return self._line


@contextlib.contextmanager
def watched(file: Path, lines: tuple[int, int]) -> Iterator[Reach]:
    """Watches this thread for `lines` of `file`. (0, 0) stands for lines that ran when the file was imported."""
    reach = Reach(file, *lines)
    if lines == (0, 0):
        reach.yes = True
        yield reach
        return
    before = sys.gettrace()
    sys.settrace(reach.called)
    try:
        yield reach
    finally:
        sys.settrace(before)
