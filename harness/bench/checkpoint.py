"""Checkpoint tools against what the machine can do: converting against copying the files, comparing against reading.

Two things are timed in turn, each in a process of its own; what is written is on the disk when the clock stops.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.bench.pairs import Ratio, ratio

__all__ = ["CheckpointBench", "Row", "bench_checkpoint"]

LAYERS = 8  # with nine kernels each, and three trees: 225 leaves


@dataclass(frozen=True, kw_only=True)
class Row:
    """One piece of work. against: what it is held against. speed: how many times as fast it is, pair by pair, from the
    start of a process to its end; inside: the same without the start-up of our own processes, a and b its seconds.
    peak, peak_against: most bytes of memory held, 0 where that is not a process of ours. bytes: of the source's files.
    """

    work: str
    against: str
    speed: Ratio
    inside: Ratio
    peak: int
    peak_against: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class CheckpointBench:
    """rows: as they were measured. leaves: of the large checkpoint. many: leaves of the one of small arrays."""

    gib: float
    leaves: int
    many: int
    rounds: int
    rows: tuple[Row, ...]


def bench_checkpoint(gib: float, rounds: int, folder: str) -> CheckpointBench:
    """Makes checkpoints of `gib` GiB in a new folder below `folder` ("" for the usual place), measures, removes them.

    Raises RuntimeError if a piece of work fails.
    """
    with tempfile.TemporaryDirectory(prefix="bench-checkpoint-", dir=folder or None) as place:
        bench = _Bench(Path(place), rounds)
        width = 8 * max(1, round(math.sqrt(gib * 2**30 / (3 * LAYERS * 15 / 4 * 4)) / 8))
        apart = bench.sample("apart", layout="apart", layers=LAYERS, width=width, compressed="zstd")
        rows = [bench.paired("link", "apart", "cp + sync", layout="scanned")]
        rows.append(bench.paired("copy", "apart", "cp + sync", layout="scanned"))
        rows.append(bench.paired("compare", "apart", "reading both", layout="keep"))
        rows.append(bench.paired("link", "apart", "load everything", layout="scanned"))
        bench.drop("apart")
        bench.sample("stacked", layout="stacked", layers=LAYERS, width=width, compressed="no")
        rows.append(bench.paired("re-chunk", "stacked", "cp + sync", layout="unscanned"))
        bench.drop("stacked")
        many = bench.sample("many", layout="apart", layers=148, width=16, compressed="zstd")
        rows.append(bench.paired("link, many leaves", "many", "cp + sync", layout="keep"))
    return CheckpointBench(gib=gib, leaves=apart, many=many, rounds=rounds, rows=tuple(rows))


class _Bench:
    """The folder that is measured in, and how often."""

    def __init__(self, folder: Path, rounds: int):
        self._folder = folder
        self._rounds = rounds

    def sample(self, name: str, **options: Any) -> int:
        """Makes a checkpoint called `name` and returns how many leaves it has."""
        return _child({"work": "sample", "target": str(self._folder / name), **options})[1]["count"]

    def drop(self, name: str) -> None:
        """Removes a checkpoint that is not needed any more."""
        shutil.rmtree(self._folder / name)

    def paired(self, work: str, source: str, against: str, **options: Any) -> Row:
        """Times `work` on the checkpoint `source` in turn with what it is held against, the first pair not counted."""
        here, there = self._folder / source, self._folder / "target"
        verb = {"re-chunk": "link", "link, many leaves": "link"}.get(work, work)
        request = {"work": verb, "source": str(here), "target": str(there), **options}
        if work == "compare":
            shutil.copytree(here, there)
        steps = {"mine": lambda: _child(request), "other": lambda: _OTHERS[against](request)}
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        answers: dict[str, list[Mapping[str, Any]]] = {name: [] for name in steps}
        # Loading everything takes long, and what it is held against many times less: one round shows that.
        for index in range(2 if against == "load everything" else self._rounds + 1):
            for name in ("mine", "other") if index % 2 else ("other", "mine"):
                self._clear(work)
                taken, answer = steps[name]()
                seconds[name].append(taken)
                answers[name].append(answer)
        shutil.rmtree(there, ignore_errors=True)
        if any(answer["count"] < 0 for answer in answers["mine"]):
            raise RuntimeError(f"{work}: the checkpoints that were compared differ")
        return Row(
            work=work,
            against=against,
            speed=ratio(seconds["mine"][1:], seconds["other"][1:]),
            inside=ratio(*([answer["seconds"] for answer in answers[name][1:]] for name in ("mine", "other"))),
            peak=max(answer["peak"] for answer in answers["mine"]),
            peak_against=max(answer["peak"] for answer in answers["other"]),
            bytes=sum(file.stat().st_size for file in here.rglob("*") if file.is_file()),
        )

    def _clear(self, work: str) -> None:
        """Makes room for what is written, and waits for the writes of others."""
        if work != "compare":
            shutil.rmtree(self._folder / "target", ignore_errors=True)
        os.sync()


def _child(request: Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
    """Seconds of a whole process that does the work, and what it says of it."""
    command = [sys.executable, "-m", "harness.bench.checkpoint_work", json.dumps(request)]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{request['work']} failed: {done.stderr.strip().splitlines()[-1:]}")
    return seconds, json.loads(done.stdout.splitlines()[-1])


def _copied(request: Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
    """Seconds until a copy of the files is on the disk."""
    start = time.perf_counter()
    subprocess.run(["cp", "-r", request["source"], request["target"]], check=True)
    os.sync()
    seconds = time.perf_counter() - start
    return seconds, {"peak": 0, "seconds": seconds}


_OTHERS: Mapping[str, Callable[[Mapping[str, Any]], tuple[float, dict[str, Any]]]] = {
    "cp + sync": _copied,
    "reading both": lambda request: _child({**request, "work": "read"}),
    "load everything": lambda request: _child({**request, "work": "load"}),
}
