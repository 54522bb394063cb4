"""How far long work on a checkpoint is: bytes and the time left, on a terminal's standard error."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

__all__ = ["bytes_shown"]


@contextlib.contextmanager
def bytes_shown() -> Iterator[Callable[[int, int], None]]:
    """Gives a callback for (bytes done, bytes in all). Nothing is shown where standard error is no terminal."""
    from tqdm import tqdm

    quiet = not sys.stderr.isatty()
    with tqdm(unit="B", unit_scale=True, unit_divisor=1024, disable=quiet, leave=False, dynamic_ncols=True) as bar:

        def tell(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield tell
