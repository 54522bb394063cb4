"""What `harness run` costs from nothing, with compiled programs, and with known verdicts; and what proofs cost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Cost", "RunBench", "bench_runs", "costs"]

CONDITIONS: Mapping[str, tuple[str, ...]] = {"cold": ("--fresh",), "warm": ("--fresh",), "unchanged": ("--reuse",)}
"""What is run, in this order, one after another in one pair of caches -> the words that make it so."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One scenario: how many cases, and seconds that running both sides and proving them took, over its cases."""

    scenario: str
    cases: int
    running: float
    proving: float


@dataclass(frozen=True, kw_only=True)
class RunBench:
    """seconds: of the whole command under each of CONDITIONS. codes: their exit codes. reused, audited: cases of the
    unchanged run. costs: of the warm run."""

    words: tuple[str, ...]
    seconds: Mapping[str, float]
    codes: Mapping[str, int]
    cases: int
    reused: int
    audited: int
    costs: tuple[Cost, ...]


def bench_runs(words: Sequence[str]) -> RunBench:
    """Times `harness run` with `words` under each condition, in caches of its own.

    Raises RuntimeError if a run leaves no report.
    """
    seconds, codes, reports = {}, {}, {}
    with tempfile.TemporaryDirectory(prefix="bench-run-") as folder:
        caches = {"JAX_COMPILATION_CACHE_DIR": f"{folder}/jax", "HARNESS_CACHE": f"{folder}/verdicts"}
        for condition, how in CONDITIONS.items():
            path = Path(folder, f"{condition}.json")
            command = [sys.executable, "-m", "harness.cli", "run", *words, *how, "--json", str(path)]
            start = time.perf_counter()
            done = subprocess.run(command, env={**os.environ, **caches}, capture_output=True, text=True, check=False)
            seconds[condition], codes[condition] = time.perf_counter() - start, done.returncode
            if not path.exists():
                raise RuntimeError(f"the {condition} run failed: {done.stderr.strip().splitlines()[-1:]}")
            reports[condition] = json.loads(path.read_text(encoding="utf-8"))
    unchanged = reports["unchanged"]
    return RunBench(
        words=tuple(words),
        seconds=seconds,
        codes=codes,
        cases=len(unchanged["scenarios"]),
        reused=len(unchanged["reuse"]["reused"]),
        audited=len(unchanged["reuse"]["audited"]),
        costs=costs(reports["warm"]),
    )


def costs(report: Mapping[str, Any]) -> tuple[Cost, ...]:
    """Run time and proof time of each scenario in a report of `harness run --json`."""
    found: dict[str, list[tuple[float, float]]] = {}
    for case in report["scenarios"]:
        proving = sum(proof["seconds"] for proof in case["verdict"]["proofs"])
        found.setdefault(case["scenario"], []).append((case["seconds"], proving))
    return tuple(
        Cost(scenario=name, cases=len(pairs), running=sum(a for a, _ in pairs), proving=sum(b for _, b in pairs))
        for name, pairs in found.items()
    )
