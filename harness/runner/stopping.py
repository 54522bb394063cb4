"""Ctrl-C and SIGTERM end a run in one way: KeyboardInterrupt, once, so that clearing up is not interrupted itself."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["stoppable"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Within it, the first SIGINT, SIGTERM or SIGHUP raises KeyboardInterrupt; later ones are ignored.

    A signal that the process was started to ignore (nohup) stays ignored. Elsewhere than in the main thread, where
    handlers cannot be set, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    watched = [number for number in SIGNALS if before[number] is not signal.SIG_IGN]

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in watched:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    try:
        for number in watched:
            signal.signal(number, stop)
        yield
    finally:
        for number in watched:
            signal.signal(number, before[number])
