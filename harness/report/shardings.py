"""Shardings of two sides as a table with sums per device, and as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tabulate import tabulate

from harness.placement import Placed, Placement, normalised

__all__ = ["HEADINGS", "shardings_data", "shardings_text"]

HEADINGS = ("", "leaf", "shape", "logical names", "spec", "shard", "bytes")


def shardings_text(rows: Sequence[Placed], sides: tuple[str, str], mesh: Mapping[str, int]) -> str:
    """Both sides' columns next to each other; "≠" before a leaf that they do not place alike; then sums per device."""
    left, right = sides
    headings = (*HEADINGS[:3], *(f"{side} {what}" for side in sides for what in HEADINGS[3:]))
    table = tabulate([_row(row, mesh) for row in rows], headings, tablefmt="simple", disable_numparse=True)
    sums = tuple(_sum(rows, side) for side in ("left", "right"))
    found = [row for row in rows if row.different]
    lines = [
        f"Mesh: {', '.join(f'{axis}={size}' for axis, size in mesh.items())}; other axes are 1.",
        f"Bytes per device: {left} {sums[0]:,}, {right} {sums[1]:,}{'' if sums[0] == sums[1] else ' ≠'}",
        *(f"≠ {row.name}: {', '.join(row.different)}" for row in found),
        f"{sum(row.count for row in rows)} leaves, {sum(row.count for row in found)} placed differently.",
    ]
    return f"{table}\n\n" + "\n".join(lines) + "\n"


def shardings_data(rows: Sequence[Placed], sides: tuple[str, str], mesh: Mapping[str, int]) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "mesh": dict(mesh),
        "bytes_per_device": dict(zip(sides, (_sum(rows, side) for side in ("left", "right")), strict=True)),
        "leaves": [
            {
                "name": row.name,
                "count": row.count,
                "different": list(row.different),
                **{
                    side: asdict(each) if each else None
                    for side, each in zip(sides, (row.left, row.right), strict=True)
                },
            }
            for row in rows
        ],
    }


def _row(row: Placed, mesh: Mapping[str, int]) -> tuple[str, ...]:
    times = f" (x{row.count})" if row.count > 1 else ""
    shapes = dict.fromkeys(_shape(each.shape) for each in (row.left, row.right) if each)
    columns = [_cells(each, mesh) for each in (row.left, row.right)]
    return "≠" if row.different else "", row.name + times, " | ".join(shapes), *columns[0], *columns[1]


def _cells(each: Placement | None, mesh: Mapping[str, int]) -> tuple[str, str, str, str]:
    if each is None:
        return ("absent", "", "", "")
    full = {axis: 1 for axes in each.spec for axis in axes} | dict(mesh)
    spec = ("+".join(axes) or "-" for axes in normalised(each.spec, full))
    return f"({', '.join(each.logical)})", f"({', '.join(spec)})", _shape(each.shard), f"{each.size:,}"


def _shape(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _sum(rows: Sequence[Placed], side: str) -> int:
    """Bytes that one device holds of all leaves of "left" or "right"."""
    found = ((getattr(row, side), row.count) for row in rows)
    return sum(each.size * count for each, count in found if each)
