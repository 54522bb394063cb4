"""What a person sees on standard error while cases run."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Literal

from tqdm import tqdm

from harness.report.record import reached
from harness.runner import Event

__all__ = ["Style", "shown", "style"]

Style = Literal["bar", "lines", "quiet"]

AGAIN = "failed in a worker that had served other cases; trying it in a fresh one"


def style(verbosity: int) -> Style:
    """A bar on a terminal; elsewhere a line for each case if -v was given, else nothing."""
    if sys.stderr.isatty():
        return "bar"
    return "lines" if verbosity else "quiet"


@contextlib.contextmanager
def shown(total: int, how: Style) -> Iterator[Callable[[Event], None]]:
    """Gives the callback for `harness.runner.run`. That a case is tried again is told in every style."""
    with tqdm(total=total, unit="case", disable=how != "bar", leave=False, dynamic_ncols=True) as bar:

        def tell(event: Event) -> None:
            bar.set_postfix_str(", ".join(event.running)[:100], refresh=False)
            bar.update(event.done - bar.n)
            bar.refresh()
            if event.kind == "again":
                tqdm.write(f"{event.case}: {AGAIN}", file=sys.stderr)
            elif event.verdict and how == "lines":
                line = f"[{event.done}/{event.total}] {event.case}: {reached(event.verdict)}"
                tqdm.write(f"{line} ({event.verdict.seconds:.1f} s)", file=sys.stderr)

        yield tell
