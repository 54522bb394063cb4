"""One worker process as its parent sees it: start it, talk to it, weigh it, kill it with all that it started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import psutil

__all__ = ["Worker", "hung_at", "kill", "resident", "start", "tail"]

STUB = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from harness.runner.worker import serve; serve(int(sys.argv[2]))"
)
DEATH_SECONDS = 5.0
"""How long killed descendants are waited for. Only one inside a system call that hangs takes longer."""

TAIL_BYTES = 4000
TAIL_LINES = 6


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A running worker; `log` is the file that takes its standard output and error."""

    process: subprocess.Popen[bytes]
    channel: Connection
    log: Path

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends JSON text. Raises OSError if the worker is gone."""
        self.channel.send_bytes(json.dumps(message).encode())

    def receive(self) -> dict[str, Any]:
        """The next message. Raises EOFError or OSError if the worker is gone, ValueError for what is not JSON."""
        return json.loads(self.channel.recv_bytes())


def start(folder: Path, environment: Mapping[str, str]) -> Worker:
    """A fresh interpreter (never a fork: JAX has threads) with this one's import path, leading a session of its own.

    A session of its own keeps the terminal's Ctrl-C from it, and lets it be killed together with its children.
    """
    ours, theirs = Pipe()
    with theirs:
        log = folder / f"worker-{theirs.fileno()}-{time.monotonic_ns()}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", STUB, json.dumps(sys.path), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(environment),
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
    return Worker(process=process, channel=ours, log=log)


def resident(worker: Worker) -> float:
    """GiB of resident memory of the worker and all its descendants; 0 for one that is gone."""
    total = 0
    for process in _family(worker):
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return total / 2**30


def kill(worker: Worker) -> None:
    """Kills the worker, its process group and every descendant, also those that left the group; then reaps it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker.process.pid, signal.SIGSTOP)  # so that none is born while they are counted
    family = _family(worker)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker.process.pid, signal.SIGKILL)
    for process in family:
        with contextlib.suppress(psutil.Error):
            process.kill()
    worker.process.wait()
    worker.channel.close()
    deadline = time.monotonic() + DEATH_SECONDS
    while any(map(_lives, family)) and time.monotonic() < deadline:
        time.sleep(0.01)


def tail(worker: Worker) -> str:
    """The last lines that the worker wrote, in one line; empty if it wrote nothing."""
    return " | ".join(_lines(worker)[-TAIL_LINES:])


def hung_at(worker: Worker) -> str:
    """The innermost Python frames of the worker's main thread, if it answers within a second; else empty."""
    with contextlib.suppress(ProcessLookupError):
        worker.process.send_signal(signal.SIGUSR1)
    for _ in range(10):
        time.sleep(0.1)
        lines = _lines(worker)
        headers = [i for i, line in enumerate(lines) if "(most recent call first)" in line]
        if headers and any("in serve" in line for line in lines[headers[-1] :]):
            return " < ".join(line.strip() for line in lines[headers[-1] + 1 : headers[-1] + 4])
    return ""


def _family(worker: Worker) -> list[psutil.Process]:
    try:
        leader = psutil.Process(worker.process.pid)
        return [leader, *leader.children(recursive=True)]
    except psutil.Error:
        return []


def _lives(process: psutil.Process) -> bool:
    """Whether a process still runs; one that only waits to be reaped by whoever adopted it does not."""
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _lines(worker: Worker) -> list[str]:
    with contextlib.suppress(OSError), worker.log.open("rb") as file:
        file.seek(max(0, worker.log.stat().st_size - TAIL_BYTES))
        text = file.read().decode(errors="replace")
        # Lines of carets under a traceback's source say nothing once they are moved.
        return [line.strip() for line in text.splitlines() if line.strip(" \t^~")]
    return []
