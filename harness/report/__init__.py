"""Verdicts on paper. Renderers are pure functions from a Report to text; only `write` touches the disk."""

from harness.report.files import ReportError, check_target, write
from harness.report.junit import junit
from harness.report.machine import machine
from harness.report.markdown import markdown
from harness.report.record import Report, Reuse, may_flip
from harness.report.table import table

__all__ = [
    "Report",
    "ReportError",
    "Reuse",
    "check_target",
    "junit",
    "machine",
    "markdown",
    "may_flip",
    "table",
    "write",
]
