"""Cases in worker processes: a crash, a hang or too much memory costs its own case only. Never imports JAX."""

from harness.runner.pool import run
from harness.runner.work import Event, Work, sharded

__all__ = ["Event", "Work", "run", "sharded"]
