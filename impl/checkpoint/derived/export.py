"""export: the weights of a train state alone, at step 0, for serving: rounded, and with every layer on its own.

Linen gets params/params, an empty opt_state and step 0; NNX the bare model with every array below {value:}. Layers that
are taken apart are called layers_<i> on either side, as those who serve them expect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path as FilePath

import numpy as np

from impl.checkpoint.dialects.canonical import Canonical, canonicalise
from impl.checkpoint.dialects.dialect import LINEN, Dialect
from impl.checkpoint.dialects.kinds import AQT, in_value
from impl.checkpoint.dialects.layers import ROOT, describe, is_array
from impl.checkpoint.dialects.relayout import relayout
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.dtypes import is_floating, to_bfloat16
from impl.checkpoint.leaves.leaf import Empty, KeyArray, Leaf, LeafSpec, Leaves, Path, dtype_of, show
from impl.checkpoint.leaves.tree import Flat
from impl.checkpoint.storage.location import locate
from impl.checkpoint.storage.source import Source, open_source
from impl.checkpoint.storage.values import Reader
from impl.checkpoint.storage.writing import refuse_inside, size_of, write_checked

__all__ = ["ExportReport", "export", "export_text", "exported"]

FORMATS = ("auto", "linen", "nnx")
DTYPES = ("bfloat16", "keep")
LAYOUTS = ("keep", "unscanned")
ROOM = 1 << 28  # bytes of decoded chunks that wait for the next layer that is cut from them


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What was written. rounded: leaves whose dtype changed. left_out: parts of the source, with their leaves."""

    source: str
    target: str
    source_dialect: Dialect
    format: str
    leaves: int
    bytes: int
    rounded: int
    groups: Mapping[str, str]
    left_out: Mapping[str, int]
    notes: tuple[str, ...]


def export(source: FilePath, target: FilePath, *, to: str, dtype: str, layout: str, scan_axis: int) -> ExportReport:
    """Writes the weights of the checkpoint at `source` to `target`/0/items.

    to: "linen", "nnx" or "auto", what the source is. dtype: "bfloat16" or "keep". layout: "unscanned" takes every stack
    apart, "keep" does not. scan_axis: where layers are taken to be stacked when the tree fits several axes.
    Raises CheckpointError.
    """
    for name, given, known in (("to", to, FORMATS), ("dtype", dtype, DTYPES), ("layout", layout, LAYOUTS)):
        if given not in known:
            raise CheckpointError(f"{name}={given!r}, expected one of {list(known)}: choose one of these")
    location = locate(source)
    refuse_inside(location.source, target)
    stored = open_source(location.items)
    canonical = canonicalise(stored.flat)
    family = to if to != "auto" else "linen" if canonical.dialect in LINEN else "nnx"
    weights = relayout(_weights_alone(canonical), layout, scan_axis, 1)
    reader = Reader(location.items, ROOM)
    leaves = {path: _rounded(path, _read(reader, stored, leaf), dtype) for path, leaf in weights.weights.items()}
    flat = exported(leaves, family)
    scanned = any(group.form == "stacked" for group in weights.groups)
    custom = {**location.custom_metadata, **({"scan_layers": scanned} if weights.groups else {})}
    write_checked(target, FilePath("0") / "items", flat, custom)
    return ExportReport(
        source=str(source),
        target=str(target),
        source_dialect=canonical.dialect,
        format=family,
        leaves=len(flat.leaves),
        bytes=size_of(flat),
        rounded=sum(dtype_of(leaf) != dtype_of(weights.weights[path]) for path, leaf in leaves.items()),
        groups={f"{ROOT}/{group.name}": describe(group) for group in weights.groups},
        left_out=_left_out(canonical),
        notes=weights.notes,
    )


def exported(weights: Leaves, family: str) -> Flat:
    """The tree that a server of that family ("linen" or "nnx") restores."""
    if family == "nnx":
        leaves = {(in_value(path) if is_array(leaf) else path): leaf for path, leaf in weights.items()}
        return Flat(leaves=leaves, lists=frozenset())
    leaves = {("params", "params", *path): leaf for path, leaf in weights.items()}
    return Flat(leaves={**leaves, ("opt_state",): Empty("dict"), ("step",): np.asarray(0, np.int32)}, lists=frozenset())


def _weights_alone(canonical: Canonical) -> Canonical:
    """`canonical` without optimizer and state. Raises CheckpointError where weights are kept in quantised form only."""
    if canonical.collections.get(AQT):
        first = min(canonical.collections[AQT])
        raise CheckpointError(
            f"{show(first)}: a quantised tensor, which stands for a kernel that is no longer there: export the train "
            "state that it was made of"
        )
    if not canonical.weights:
        raise CheckpointError("there are no weights below the model: give a checkpoint that holds some")
    return replace(canonical, slots={}, scalars={}, step={}, aux={}, collections={}, bare_slots=frozenset())


def _read(reader: Reader, stored: Source, leaf: Leaf) -> Leaf:
    """The leaf's values: one array of the store, or one layer of it, and nothing else is read."""
    if not isinstance(leaf, LeafSpec) or leaf.origin is None:
        return leaf
    values = reader.read(stored, leaf.origin)
    return KeyArray(values, leaf.impl) if leaf.impl else values


def _rounded(path: Path, leaf: Leaf, dtype: str) -> Leaf:
    if dtype == "keep" or not isinstance(leaf, np.ndarray) or not is_floating(leaf.dtype):
        return leaf
    if leaf.dtype.name == dtype:
        return leaf
    rounded = to_bfloat16(leaf)
    lost = np.isinf(rounded.astype(np.float32)) & np.isfinite(leaf.astype(np.float64))
    if lost.any():
        value = leaf[tuple(np.argwhere(lost)[0])]
        raise CheckpointError(f"{show(path)}: {value} has no bfloat16, whose largest is 3.39e38: ask for --dtype keep")
    return rounded


def _left_out(canonical: Canonical) -> dict[str, int]:
    parts: dict[str, int] = {
        "optimizer": sum(len(tree) for tree in canonical.slots.values()) + len(canonical.scalars),
        "state": len(canonical.aux),
        **{name: len(tree) for name, tree in canonical.collections.items()},
    }
    return {name: count for name, count in parts.items() if count}


def export_text(report: ExportReport) -> str:
    """The report for a terminal."""
    left = ", ".join(f"{name} ({count} leaves)" for name, count in report.left_out.items())
    lines = [
        f"wrote     {report.target} ({report.format}, weights alone, step 0)",
        f"from      {report.source} ({report.source_dialect})",
        f"size      {report.leaves} leaves, {report.bytes} bytes, {report.rounded} rounded to bfloat16",
        *(f"layers    {name}: {words}" for name, words in report.groups.items()),
        *([f"left out  {left}"] if left else []),
        *(f"note      {note}" for note in report.notes),
    ]
    return "\n".join(lines)
