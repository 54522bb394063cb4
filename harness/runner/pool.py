"""Gives tickets to workers and watches them. The result does not depend on the number of workers."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path
from typing import Literal

import psutil

from harness.discover import Ticket
from harness.runner import process
from harness.runner.process import Worker
from harness.runner.stopping import stoppable
from harness.runner.surroundings import surroundings, with_devices
from harness.runner.work import Event, Work
from harness.verdict import Ending, Verdict
from harness.verdict_json import from_json

__all__ = ["run"]

TICK = 0.2
"""Seconds between two looks at the workers' memory and clocks."""

START_SECONDS = 120.0
"""A worker that has not begun its first case by then is taken for broken."""

Told = Literal["started", "finished", "again"]


@dataclass
class _Desk:
    """A worker of `devices` and the ticket (index) that it is at; -1 while it waits. served: cases it has finished."""

    worker: Worker
    at: int
    since: float
    deadline: float
    devices: int
    served: int = 0
    began: bool = False


@dataclass
class _Room:
    """The state of one run."""

    tickets: Sequence[Ticket]
    jobs: int
    work: Work
    tell: Callable[[Event], None]
    folder: Path
    environment: Mapping[str, str]
    memory: float
    waiting: deque[int]
    desks: list[_Desk] = field(default_factory=list)
    verdicts: dict[int, Verdict] = field(default_factory=dict)


def run(tickets: Sequence[Ticket], jobs: int, work: Work, on_event: Callable[[Event], None]) -> list[Verdict]:
    """Judges every ticket in one of at most `jobs` worker processes and returns the verdicts in ticket order.

    Workers serve one case after the other, to import JAX once. One that crashed, outlived the ticket's `seconds`, grew
    over the ticket's `gibibytes`, or was left changed by a case, is replaced. A crash or too much memory in a worker
    that has served earlier cases may be their doing: the case is tried once more in a fresh worker. Cases whose limits
    together exceed the free memory do not run at the same time.

    Failures are verdicts (ERROR, TIMEOUT, OUT_OF_MEMORY). SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt, as any
    exception of `on_event` does, after every worker has been killed and every temporary file removed.
    Raises ValueError for jobs < 1.
    """
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}: at least one worker is needed")
    longest_first = sorted(range(len(tickets)), key=lambda index: (-tickets[index].seconds, tickets[index].devices))
    with stoppable(), tempfile.TemporaryDirectory(prefix="harness-run-") as folder:
        room = _Room(
            tickets=tickets,
            jobs=jobs,
            work=work,
            tell=on_event,
            folder=Path(folder),
            environment=surroundings(os.environ),
            memory=psutil.virtual_memory().available / 2**30,
            waiting=deque(longest_first),
        )
        try:
            while len(room.verdicts) < len(tickets):
                _give_out(room)
                _hear(room)
                _watch(room)
        finally:
            for desk in room.desks:
                process.kill(desk.worker)
    return [room.verdicts[index] for index in range(len(tickets))]


def _give_out(room: _Room) -> None:
    """Gives waiting tickets to idle or new workers, as far as `jobs` and memory allow."""
    while room.waiting:
        busy = [desk for desk in room.desks if desk.at >= 0]
        due, devices = room.tickets[room.waiting[0]].gibibytes, room.tickets[room.waiting[0]].devices
        claimed = sum(room.tickets[desk.at].gibibytes for desk in busy)
        if len(busy) >= room.jobs or (busy and claimed + due > room.memory):
            return
        idle = min((desk for desk in room.desks if desk.at < 0), key=lambda desk: desk.devices != devices, default=None)
        # What earlier cases left in memory must not be charged to this one, and devices are counted at the start.
        unfit = idle and (idle.devices != devices or process.resident(idle.worker) > due / 2)
        if idle and (unfit or idle.worker.process.poll() is not None):
            _dismiss(room, idle)
            idle = None
        _assign(room, idle, room.waiting.popleft())


def _assign(room: _Room, idle: _Desk | None, index: int) -> None:
    if idle is None:
        devices = room.tickets[index].devices
        worker = process.start(room.folder, with_devices(room.environment, devices))
        idle = _Desk(worker=worker, at=index, since=0.0, deadline=0.0, devices=devices)
        room.desks.append(idle)
    desk = idle
    desk.at, desk.began, desk.since = index, False, time.monotonic()
    desk.deadline = desk.since + START_SECONDS
    try:
        desk.worker.send({"work": dataclasses.asdict(room.work), "ticket": dataclasses.asdict(room.tickets[index])})
    except OSError:
        return  # it died just now; `_hear` finds out and says why
    _tell(room, "started", index)


def _hear(room: _Room) -> None:
    """Waits at most a tick for messages and takes them."""
    talking = {desk.worker.channel: desk for desk in room.desks}
    for channel in connection.wait(list(talking), timeout=TICK):
        desk = talking[channel]  # type: ignore[index]
        try:
            message = desk.worker.receive()
            if message["kind"] == "started":
                desk.began, desk.since = True, time.monotonic()
                desk.deadline = desk.since + room.tickets[desk.at].seconds
                continue
            verdict = from_json(message["verdict"])
        except (EOFError, OSError):
            _lost(room, desk)
            continue
        except (ValueError, KeyError, TypeError) as problem:
            _fail(room, desk, Ending.ERROR, f"the worker's answer cannot be read: {problem}")
            continue
        index, desk.at, desk.served = desk.at, -1, desk.served + 1
        if not message["clean"]:
            _dismiss(room, desk)
        _finish(room, index, verdict)


def _watch(room: _Room) -> None:
    """Ends what died silently, took too long or grew too large."""
    now = time.monotonic()
    for desk in [desk for desk in room.desks if desk.at >= 0]:
        ticket = room.tickets[desk.at]
        if desk.worker.process.poll() is not None and not desk.worker.channel.poll():
            _lost(room, desk)
        elif now > desk.deadline and desk.began:
            place = process.hung_at(desk.worker)
            where = f"; it was at {place}" if place else ""
            _fail(room, desk, Ending.TIMEOUT, f"still running after its {ticket.seconds:g} s{where}")
        elif now > desk.deadline:
            _fail(room, desk, Ending.ERROR, f"the worker did not start within {START_SECONDS:g} s{_said(desk)}")
        elif (used := process.resident(desk.worker)) > ticket.gibibytes:
            _again_or_fail(
                room, desk, Ending.OUT_OF_MEMORY, f"used {used:.2f} GiB of memory, allowed are {ticket.gibibytes:g}"
            )


def _lost(room: _Room, desk: _Desk) -> None:
    """The worker is gone. If it was at a case, says how it went."""
    if desk.at < 0:
        _dismiss(room, desk)
        return
    try:
        status = desk.worker.process.wait(timeout=TICK)
    except subprocess.TimeoutExpired:  # it hung up without ending: no more use than a dead one
        status = 0
    seconds = time.monotonic() - desk.since
    stage = f"after {seconds:.1f} s" if desk.began else "before it began the case"
    _again_or_fail(room, desk, Ending.ERROR, f"the worker {_how(status)} {stage}{_said(desk)}")


def _how(status: int) -> str:
    if status >= 0:
        return f"left with exit status {status}"
    hint = " (the kernel does so when the machine runs out of memory)" if -status == signal.SIGKILL else ""
    return f"was killed by {signal.Signals(-status).name}{hint}"


def _said(desk: _Desk) -> str:
    text = process.tail(desk.worker)
    return f"; it wrote last: {text}" if text else ""


def _again_or_fail(room: _Room, desk: _Desk, ending: Ending, detail: str) -> None:
    if not desk.served:
        _fail(room, desk, ending, detail)
        return
    index = desk.at
    _dismiss(room, desk)
    _tell(room, "again", index)
    _assign(room, None, index)


def _fail(room: _Room, desk: _Desk, ending: Ending, detail: str) -> None:
    index, ticket = desk.at, room.tickets[desk.at]
    seconds = time.monotonic() - desk.since
    _dismiss(room, desk)
    failed = Verdict(case=ticket.case, scenario=ticket.scenario, sides=ticket.sides)
    _finish(room, index, dataclasses.replace(failed, ending=ending, detail=detail, seconds=seconds))


def _finish(room: _Room, index: int, verdict: Verdict) -> None:
    room.verdicts[index] = verdict
    _tell(room, "finished", index)


def _dismiss(room: _Room, desk: _Desk) -> None:
    process.kill(desk.worker)
    desk.at = -1
    room.desks.remove(desk)


def _tell(room: _Room, kind: Told, index: int) -> None:
    room.tell(
        Event(
            kind=kind,
            case=room.tickets[index].case,
            running=tuple(room.tickets[desk.at].case for desk in room.desks if desk.at >= 0),
            done=len(room.verdicts),
            total=len(room.tickets),
            verdict=room.verdicts.get(index),
        )
    )
