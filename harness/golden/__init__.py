"""Observations accepted earlier: a header that reads well in a diff, an exact body, and the one way to change them.

`harness.golden.extension`, which needs pytest and syrupy, is imported by tests themselves.
"""

from harness.golden.acceptance import GoldenError, Row, accept, pending, status
from harness.golden.changes import diff
from harness.golden.check import drift_from, held
from harness.golden.store import Loaded, Missing, Stale, Tampered, load

__all__ = [
    "GoldenError",
    "Loaded",
    "Missing",
    "Row",
    "Stale",
    "Tampered",
    "accept",
    "diff",
    "drift_from",
    "held",
    "load",
    "pending",
    "status",
]
