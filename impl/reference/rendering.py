"""A report as text for a terminal and as plain data for JSON. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from impl.reference.records import Measured, ReferenceReport

__all__ = ["reference_data", "reference_text"]

HEADERS = ("variant", "side", "logits", "bound", "loss terms", "bound", "gradients", "bound", "worst leaf", "")


def reference_text(report: ReferenceReport) -> str:
    """One row a variant and side, what failed in full, how it was read, and whether it passed."""
    rows = []
    for run in report.runs:
        logits, terms, gradients = (_worst(group) for group in (run.logits, run.terms, run.gradients))
        leaf = gradients[2] if run.gradients else ""
        verdict = "passed" if run.passed else "FAILED"
        rows.append((run.variant, run.side, *logits[:2], *terms[:2], *gradients[:2], leaf, verdict))
    lines = [
        f"{report.case}: {report.source}, {report.parameters} parameters",
        "",
        tabulate(rows, HEADERS, tablefmt="simple", disable_numparse=True),
    ]
    failed = [
        f"  {run.variant}, {run.side}: {row.name} {row.where} is {row.value:.3g} away, bound {row.bound:.3g}, "
        f"largest {row.scale:.3g}"
        for run in report.runs
        for row in sorted(run.measured, key=lambda row: -row.share)
        if not row.passed
    ]
    if failed:
        lines += ["", f"{len(failed)} beyond their bounds:", *failed[:20]]
        lines += [f"  and {len(failed) - 20} more"] if len(failed) > 20 else []
    lines += ["", "notes:", *(f"  {note}" for note in report.notes)] if report.notes else []
    lines += ["", "bounds:", *(f"  {reason}" for reason in report.reasons)]
    count = sum(len(run.measured) for run in report.runs)
    outcome = "passed" if report.passed else "not passed"
    return "\n".join([*lines, "", f"{outcome}: {count} comparisons in {len(report.runs)} runs"])


def _worst(group: Sequence[Measured]) -> tuple[str, str, str]:
    """Distance, bound and name of what is nearest to its bound or furthest beyond."""
    if not group:
        return "-", "-", ""
    row = max(group, key=lambda row: row.share)
    return f"{row.value:.2g}", f"{row.bound:.2g}", row.name


def reference_data(report: ReferenceReport) -> dict[str, Any]:
    """The report as dicts, lists, numbers and strings, ready for json.dumps."""
    return {
        "version": 1,
        "case": report.case,
        "source": report.source,
        "parameters": report.parameters,
        "passed": report.passed,
        "runs": [
            {
                "variant": run.variant,
                "side": run.side,
                "passed": run.passed,
                "logits": [_row(row) for row in run.logits],
                "terms": [_row(row) for row in run.terms],
                "gradients": [_row(row) for row in run.gradients],
            }
            for run in report.runs
        ],
        "reasons": list(report.reasons),
        "notes": list(report.notes),
    }


def _row(row: Measured) -> dict[str, Any]:
    # JSON has neither infinity nor not-a-number.
    value = row.value if abs(row.value) < float("inf") else str(row.value)
    scale = row.scale if abs(row.scale) < float("inf") else str(row.scale)
    return {
        "name": row.name,
        "value": value,
        "bound": row.bound if abs(row.bound) < float("inf") else str(row.bound),
        "scale": scale,
        "where": row.where,
        "passed": row.passed,
    }
