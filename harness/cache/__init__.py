"""Verdicts of earlier runs, used again while everything that they rest on is unchanged, and audited at random.

A verdict is kept under what could change it: its case, the code that ran, the toolchain, the machine, the environment
and the golden. The graphs that were compiled are kept with it but are not enough: code of the host that no graph shows
could be wrong. Never imports JAX.
"""

from harness.cache.reuse import NOTING, Plan, Request, planned, settled
from harness.cache.store import verdict_folder

__all__ = ["NOTING", "Plan", "Request", "planned", "settled", "verdict_folder"]
