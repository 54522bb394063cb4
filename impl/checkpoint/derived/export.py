"""export: the weights of a train state alone, at step 0, for serving: rounded, and with every layer on its own.

Linen gets params/params, an empty opt_state and step 0; NNX the bare model with every array below {value:}. Layers that
are taken apart are called layers_<i> on either side, as those who serve them expect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path as FilePath

import numpy as np

from impl.checkpoint.conversion.plan import Opens, make_plan
from impl.checkpoint.derived.writing import Place, refuse_inside, room_for, size_of, write_planned
from impl.checkpoint.dialects.canonical import Canonical, canonicalise
from impl.checkpoint.dialects.dialect import LINEN, Dialect
from impl.checkpoint.dialects.kinds import AQT, in_value
from impl.checkpoint.dialects.layers import ROOT, describe, is_array
from impl.checkpoint.dialects.relayout import relayout
from impl.checkpoint.errors import CheckpointError, check_choices
from impl.checkpoint.leaves.dtypes import dtype_named, is_floating, to_bfloat16
from impl.checkpoint.leaves.leaf import Empty, Leaf, LeafSpec, Leaves, Path, shape_of, show
from impl.checkpoint.leaves.origin import stored_names
from impl.checkpoint.leaves.tree import Flat, flatten, nest
from impl.checkpoint.progress import Watch, untold
from impl.checkpoint.storage.location import locate
from impl.checkpoint.storage.source import Source, open_source
from impl.checkpoint.storage.values import Reader, Values

__all__ = ["ExportReport", "ExportWishes", "export", "export_text", "exported"]

FORMATS = ("auto", "linen", "nnx")
DTYPES = ("bfloat16", "keep")
LAYOUTS = ("keep", "unscanned")


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


@dataclass(frozen=True, kw_only=True)
class ExportWishes:
    """How weights are to be written. to: "linen", "nnx" or "auto", what the source is. dtype: "bfloat16" or "keep".

    layout: "unscanned" takes every stack apart, "keep" does not. scan_axis: where layers are taken to be stacked when
    the tree fits several axes.
    """

    to: str = "auto"
    dtype: str = "bfloat16"
    layout: str = "keep"
    scan_axis: int = 1


def export(source: FilePath, target: FilePath, wishes: ExportWishes, watch: Watch = untold) -> ExportReport:
    """Writes the weights of the checkpoint at `source` to `target`/0/items, a part of one leaf in memory at a time.

    Data files are copied and not linked: they hold the moments too. watch: told of bytes as they go. Raises
    CheckpointError.
    """
    check_choices(wishes, {"to": FORMATS, "dtype": DTYPES, "layout": LAYOUTS})
    location = locate(source)
    refuse_inside(location.source, target)
    stored = open_source(location.items)
    canonical = canonicalise(stored.flat)
    family = wishes.to if wishes.to != "auto" else "linen" if canonical.dialect in LINEN else "nnx"
    weights = relayout(_weights_alone(canonical), wishes.layout, wishes.scan_axis, 1)
    flat, computed = _rounding(stored, weights.weights, family, wishes.dtype)
    scanned = any(group.form == "stacked" for group in weights.groups)
    noted = {**location.custom_metadata, **({"scan_layers": scanned} if weights.groups else {})}
    items = FilePath("0") / "items"
    place = Place(target=FilePath(target), relative=items, noted=noted, step={}, mode="copy")
    write_planned(stored, make_plan(stored, flatten(nest(flat)), computed), place, watch)
    return ExportReport(
        source=str(source),
        target=str(target),
        source_dialect=canonical.dialect,
        format=family,
        leaves=len(flat.leaves),
        bytes=size_of(flat),
        rounded=len(computed),
        groups={f"{ROOT}/{group.name}": describe(group) for group in weights.groups},
        left_out=_left_out(canonical),
        notes=weights.notes,
    )


def _rounding(stored: Source, weights: Leaves, family: str, dtype: str) -> tuple[Flat, dict[Path, Opens]]:
    """The tree to be written, and how to come by those of its leaves that are rounded."""
    rounded = {path: _as_bfloat16(leaf) for path, leaf in weights.items() if dtype != "keep" and _is_wider(leaf)}
    flat = exported({**weights, **rounded}, family)
    names = {id(leaf): path for path, leaf in rounded.items()}  # leaves are passed on as they are
    places = {place: names[id(leaf)] for place, leaf in flat.leaves.items() if id(leaf) in names}
    return flat, {place: partial(_opened, stored, path, weights[path]) for place, path in places.items()}


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


def _is_wider(leaf: Leaf) -> bool:
    """Whether a leaf holds numbers with a fraction that are to be rounded."""
    if not isinstance(leaf, LeafSpec) or leaf.impl or leaf.dtype == "bfloat16":
        return False
    return is_floating(dtype_named(leaf.dtype))


def _as_bfloat16(leaf: Leaf) -> LeafSpec:
    return LeafSpec(shape_of(leaf), "bfloat16")


def _opened(stored: Source, path: Path, leaf: Leaf) -> Values:
    """The leaf's values rounded, read as they are asked for: one array of the store, or one layer, and nothing else."""
    assert isinstance(leaf, LeafSpec)
    assert leaf.origin is not None
    origin = leaf.origin
    reader = Reader(stored.items, room_for(stored, stored_names(origin)))
    return lambda part: _rounded(path, reader.part(stored, origin, part))


def _rounded(path: Path, values: np.ndarray) -> np.ndarray:
    rounded = to_bfloat16(values)
    lost = np.isinf(rounded.astype(np.float32)) & np.isfinite(values.astype(np.float64))
    if lost.any():
        value = values[tuple(np.argwhere(lost)[0])]
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
