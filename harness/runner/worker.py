"""The worker's own half: takes tickets from its parent until the parent hangs up, answers each with a verdict.

Parent and worker exchange JSON text over one socket; nothing is unpickled. To the worker: {"work": ..., "ticket": ...}.
From it: {"kind": "started"}, then {"kind": "verdict", "verdict": ..., "clean": whether it may serve another case}.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import importlib
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from harness.discover import Ticket
from harness.runner.work import Work
from harness.verdict import Ending, Verdict
from harness.verdict_json import to_json

__all__ = ["serve"]


def serve(descriptor: int) -> None:
    """Serves the parent at the other end of the socket `descriptor`. Never returns: the end of the parent ends it."""
    os.set_inheritable(descriptor, False)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # the parent asks where a hung case is
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    _volunteer()
    channel = Connection(descriptor)
    orders: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(channel, orders), daemon=True).start()
    while True:
        order = json.loads(orders.get())
        work = Work(**{**order["work"], "preload": tuple(order["work"]["preload"])})
        ticket = Ticket(**{**order["ticket"], "sides": tuple(order["ticket"]["sides"])})
        _forget_output()
        _preload(work)
        before = _state()
        _send(channel, {"kind": "started"})
        verdict = _answer(ticket, work)
        sys.stdout.flush()
        _send(channel, {"kind": "verdict", "verdict": to_json(verdict), "clean": _state() == before})


def _send(channel: Connection, message: dict[str, Any]) -> None:
    channel.send_bytes(json.dumps(message).encode())


def _listen(channel: Connection, orders: queue.SimpleQueue[bytes]) -> None:
    """Passes orders on. When the parent is gone, however it went, ends this worker and all that it started."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            orders.put(channel.recv_bytes())
    os.killpg(os.getpgid(0), signal.SIGKILL)


def _volunteer() -> None:
    """Should the machine run out of memory before the parent notices, the kernel is to take this process first."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _forget_output() -> None:
    """Empties the file that holds standard output and error, so that it tells of one case only."""
    with contextlib.suppress(OSError):
        os.ftruncate(sys.stderr.fileno(), 0)


def _preload(work: Work) -> None:
    """Imports what cases need. What cannot be imported now fails again in the case, which reports it."""
    for name in (*work.preload, work.function.partition(":")[0]):
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def _function(work: Work) -> Callable[[Ticket, Path, Path], Verdict]:
    module, _, name = work.function.partition(":")
    return getattr(importlib.import_module(module), name)


def _state() -> tuple[object, ...]:
    """What a case may change for the next one. A worker in which it changed is not used again."""
    jax = sys.modules.get("jax")
    return os.getcwd(), dict(os.environ), tuple(sys.path), dict(jax.config.values) if jax else {}


def _answer(ticket: Ticket, work: Work) -> Verdict:
    """The function's verdict, or one that says which exception it raised: sys.exit and MemoryError too."""
    try:
        verdict = _function(work)(ticket, Path(work.goldens), Path(work.pending))
        if isinstance(verdict, Verdict) and verdict.case == ticket.case:
            return verdict
        detail = f"{work.function} returned {type(verdict).__name__} instead of the verdict of {ticket.case}"
        ending = Ending.ERROR
    except BaseException as problem:
        traceback.print_exc()
        ending = Ending.OUT_OF_MEMORY if _is_memory(problem) else Ending.ERROR
        detail = f"{type(problem).__name__}: {problem} ({_place(problem)})"
    return dataclasses.replace(
        Verdict(case=ticket.case, scenario=ticket.scenario, sides=ticket.sides), ending=ending, detail=detail
    )


def _is_memory(problem: BaseException) -> bool:
    """Python's own error, or XLA's status for an allocation that failed."""
    return isinstance(problem, MemoryError) or str(problem).startswith("RESOURCE_EXHAUSTED")


def _place(problem: BaseException) -> str:
    frames = traceback.extract_tb(problem.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "no traceback"
