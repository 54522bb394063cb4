"""What the harness costs: a verified case against compiling and running the same two programs bare, cold each time."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from harness.bench.pairs import Ratio, ratio
from harness.discover import Ticket

__all__ = ["bench_overhead"]

_BARE = """
import sys, time
from pathlib import Path
from harness.discover import Ticket
from harness.prepare import prepare
from harness.registry import load_pair
from harness.verify import scenario_of, verify_case
import json, jax
how, goldens, fields = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
ticket = Ticket(**{**fields, "sides": tuple(fields["sides"])})
pair = load_pair(ticket.pair)
jax.block_until_ready(jax.numpy.ones(3) + 1)
start = time.perf_counter()
case = prepare(pair, scenario_of(ticket, pair), ticket)
if how == "bare":
    for run in case.runs:
        pair.sides[run.side].programs[run.program](case, run)
else:
    verify_case(pair, case, goldens, Path(""))
print(time.perf_counter() - start)
"""


def bench_overhead(ticket: Ticket, goldens: Path, rounds: int) -> Ratio:
    """Seconds of verify over seconds of the bare programs, each in a process of its own with an empty compile cache."""
    pairs = [[_timed(how, ticket, goldens) for how in ("bare", "verified")] for _ in range(rounds)]
    return ratio([bare for bare, _ in pairs], [verified for _, verified in pairs])


def _timed(how: str, ticket: Ticket, goldens: Path) -> float:
    import dataclasses
    import json

    with tempfile.TemporaryDirectory(prefix="bench-cache-") as cache:
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache, "TF_CPP_MIN_LOG_LEVEL": "3"}
        words = [sys.executable, "-c", _BARE, how, str(goldens), json.dumps(dataclasses.asdict(ticket))]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the {how} run of {ticket.case} failed: {done.stderr.strip().splitlines()[-1:]}")
    return float(done.stdout.split()[-1])
