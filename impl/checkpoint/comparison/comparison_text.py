"""A comparison as text for a terminal. Nothing is decided here."""

from __future__ import annotations

from typing import Any

from impl.checkpoint.comparison.differences import CheckpointComparison, LeafDifference
from impl.checkpoint.tables import table

__all__ = ["comparison_text"]

HEADERS = ["part", "leaf", "what", "left", "right", "differing", "max abs", "max rel", "ulp", "first"]


def comparison_text(record: CheckpointComparison) -> str:
    """A comparison: the outcome, the counts, every difference, and what was not compared."""
    facts = [
        ("left", f"{record.left} ({record.left_dialect})"),
        ("right", f"{record.right} ({record.right_dialect})"),
        ("outcome", record.outcome),
        ("compared", f"{record.compared} leaves ({record.values})"),
        ("found", f"{record.missing} missing, {record.extra} extra, {record.differing} differing"),
    ]
    lines = [table(facts, tablefmt="plain")]
    skipped = [f"{row.part} ({row.leaves} leaves): {row.reason}" for row in record.not_compared]
    for title, items in (("not compared", skipped), ("notes", list(record.notes))):
        lines += [f"{title}:", *(f"  {item}" for item in items)] if items else []
    if record.differences:
        rows = [[row.part, row.path, row.reason, row.gap.left, row.gap.right, *_gap(row)] for row in record.differences]
        lines += ["", table(rows, headers=HEADERS, tablefmt="simple")]
    return "\n".join(lines)


def _gap(row: LeafDifference) -> list[Any]:
    if row.reason != "value":
        return ["-"] * 5
    gap = row.gap
    odd = [f"{gap.nan} NaN"] if gap.nan else []
    odd += [f"{gap.zeros} of sign of zero"] if gap.zeros else []
    count = f"{gap.differing} of {row.size}" + (f" ({', '.join(odd)})" if odd else "")
    ulp = str(gap.ulp) if gap.ulp >= 0 else "-"
    return [count, f"{gap.max_abs:.3g}", f"{gap.max_rel:.3g}", ulp, ",".join(map(str, gap.first)) or "-"]
