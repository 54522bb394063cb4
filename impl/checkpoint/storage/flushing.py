"""Bytes on their way to the disk while more of them are made: nobody waits for all of them at the end."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["Flusher"]

EVERY = 64 << 20


class Flusher:
    """Writes one file out behind its writer's back. Errors of the disk come out of `wrote` or `finish`."""

    def __init__(self, handle: int):
        self._handle = handle
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._running: Future[None] | None = None
        self._count = 0

    def wrote(self, count: int) -> None:
        """Told of bytes that were written; has them written out once there are enough and nothing else is under way."""
        self._count += count
        if self._count < EVERY or (self._running and not self._running.done()):
            return
        self._wait()
        self._count = 0
        self._running = self._pool.submit(os.fdatasync, self._handle)

    def finish(self) -> None:
        """Waits until all of the file is on the disk. The file may be closed afterwards, also when this raises."""
        try:
            self._wait()
            os.fsync(self._handle)
        finally:
            self._pool.shutdown()

    def _wait(self) -> None:
        if self._running:
            self._running.result()
