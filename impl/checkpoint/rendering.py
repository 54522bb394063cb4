"""The three records as text for a terminal and as plain data for JSON. Nothing is decided here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from impl.checkpoint.checksums.checking import ChecksumReport
from impl.checkpoint.comparison.differences import CheckpointComparison, LeafDifference
from impl.checkpoint.conversion.convert import ConversionReport
from impl.checkpoint.conversion.transfer import Transfer
from impl.checkpoint.inspection import Inspection
from impl.checkpoint.tables import table

__all__ = ["as_data", "conversion_text", "inspection_text"]


SHOWN = 3
"""How many leaves are named that were left out for one reason."""


def as_data(record: Any) -> dict[str, Any]:
    """A record as dicts, lists, numbers and strings, ready for json.dumps; what has an outcome gets that too."""
    data = _plain(record)
    if isinstance(record, CheckpointComparison | ChecksumReport):
        data["outcome"] = record.outcome
    if isinstance(record, ConversionReport):
        del data["transfer"]["entries"]
    return data


def _plain(value: Any) -> Any:
    if isinstance(value, LeafDifference):  # one flat row, as readers of the JSON know it
        row = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {**row, **row.pop("gap")}
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(child) for key, child in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(child) for child in value]
    if (isinstance(value, float) and value in (float("inf"), float("-inf"))) or value != value:
        return str(value)  # JSON has no infinity
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def _table(rows: list[list[Any]], headers: list[str]) -> str:
    return table(rows, headers=headers, tablefmt="simple")


def _facts(rows: list[tuple[str, Any]]) -> str:
    return table([row for row in rows if row[1] != ""], tablefmt="plain")


def _listed(title: str, lines: list[str]) -> list[str]:
    return [f"{title}:", *(f"  {line}" for line in lines)] if lines else []


def _counts(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def inspection_text(record: Inspection) -> str:
    """An inspection: the facts, then one row a leaf."""
    facts = [
        ("checkpoint", record.path),
        ("dialect", record.dialect),
        *((group, words) for group, words in record.layout.items()),
        ("optimizer", record.optimizer),
        ("step", record.step_dtype or "none"),
        ("leaves", f"{record.leaves} ({_counts(record.dtypes)})"),
        ("bytes", f"{record.bytes} ({_counts(record.bytes_by_part)}), on disk {record.bytes_on_disk}"),
        ("other state", _counts(record.aux) or "none"),
        ("metadata", _counts(record.custom_metadata)),
    ]
    rows = [[row.path, "x".join(map(str, row.shape)) or "scalar", row.dtype, row.bytes] for row in record.rows]
    table = _table(rows, ["leaf", "shape", "dtype", "bytes"])
    return "\n".join([_facts(facts), *_listed("notes", list(record.notes)), "", table])


def conversion_text(record: ConversionReport) -> str:
    """A conversion: from, to, how much, and what was left out."""
    facts = [
        ("from", f"{record.source} ({record.source_dialect})"),
        ("to", f"{record.target} ({record.target_dialect})"),
        *((group, words) for group, words in record.groups.items()),
        ("written", f"{record.leaves} leaves, {record.bytes} bytes"),
        *_transfer(record.transfer),
        ("verified", f"values of {record.verified} leaves" if record.verified else "structure"),
    ]
    return "\n".join([_facts(facts), *_listed("left out", _dropped(record)), *_listed("notes", list(record.notes))])


def _dropped(record: ConversionReport) -> list[str]:
    """A line for each reason, with the first leaves that it holds for: an unscanned model has thousands of streams."""
    reasons: dict[str, list[str]] = {}
    for row in record.dropped:
        reasons.setdefault(row.reason, []).append(row.path)
    lines = []
    for reason, paths in reasons.items():
        more = f" and {len(paths) - SHOWN} more (--json PATH has all)" if len(paths) > SHOWN else ""
        lines.append(f"{', '.join(paths[:SHOWN])}{more}: {reason}")
    return lines


def _transfer(record: Transfer) -> list[tuple[str, str]]:
    kept = {"link": "linked", "copy": "copied"}[record.mode]
    files = f" (in files of {record.file_bytes} bytes)" if record.file_bytes else ""
    return [
        (kept, f"{record.kept_leaves} leaves, {record.kept_bytes} bytes{files}" if record.kept_leaves else ""),
        ("in the index", f"{record.inline_leaves} leaves" if record.inline_leaves else ""),
        ("re-chunked", f"{record.made_leaves} leaves, {record.made_bytes} bytes" if record.made_leaves else ""),
    ]
