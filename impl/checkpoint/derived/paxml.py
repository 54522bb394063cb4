"""paxml: a GPT-3 that Paxml saved, one zarr array a folder, as an Orbax checkpoint of the decoder here.

Every array must be in the table of `gpt3` and every row of the table must find its array, with the
axes that all of them agree on. With moments the optimizer is adam_pax's flat state; without any, weights alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from impl.checkpoint.conversion.plan import make_plan
from impl.checkpoint.derived.gpt3 import FUSED, MOMENTS, SPLIT, Row, moment_key, turned, weight_key
from impl.checkpoint.derived.writing import Place, refuse_inside, size_of, write_planned
from impl.checkpoint.dialects.assembly import assemble
from impl.checkpoint.dialects.canonical import canonicalise
from impl.checkpoint.dialects.dialect import Dialect
from impl.checkpoint.dialects.layers import ROOT, describe
from impl.checkpoint.dialects.relayout import relayout, target_dialect
from impl.checkpoint.errors import CheckpointError, check_choices
from impl.checkpoint.leaves.leaf import Leaf, LeafSpec, Path, show
from impl.checkpoint.leaves.origin import Stored, stored_names
from impl.checkpoint.leaves.tree import Flat, flatten, nest
from impl.checkpoint.progress import Watch, untold
from impl.checkpoint.storage.orbax_metadata import OrbaxTree
from impl.checkpoint.storage.source import Source
from impl.checkpoint.storage.values import Part, Values, read_part
from impl.checkpoint.storage.zarr import FolderArray, arrays_in, open_array, read_array

__all__ = ["PaxmlReport", "PaxmlWishes", "paxml", "paxml_text"]

STEP, COUNT = "step", "opt_states_0.no_prefix_0.count"
QKV = {"fused": FUSED, "split": SPLIT}
TARGETS = ("linen", "nnx")
LAYOUTS = ("scanned", "unscanned")
FRESH = OrbaxTree(
    kinds={},
    lists=frozenset(),
    strings={},
    shardings={},
    generators={},
    indexed=True,
    zarr3=False,
    every_chunk=True,
    custom=None,
)
"""What is noted of a tree that no Orbax has written yet."""


@dataclass(frozen=True, kw_only=True)
class PaxmlReport:
    """What was written. axes: the model's sizes by letter (`gpt3`). left_out: arrays left behind."""

    source: str
    target: str
    dialect: Dialect
    step: int
    arrays: int
    leaves: int
    bytes: int
    axes: Mapping[str, int]
    groups: Mapping[str, str]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PaxmlWishes:
    """How the decoder is to be written. to: "linen" or "nnx". qkv: "fused" or "split".

    layout: "scanned" (at scan_axis) or "unscanned". leave_out: patterns of names of arrays that have no place here.
    """

    to: str = "linen"
    qkv: str = "fused"
    layout: str = "scanned"
    scan_axis: int = 1
    leave_out: tuple[str, ...] = ()


def paxml(source: FilePath, target: FilePath, wishes: PaxmlWishes, watch: Watch = untold) -> PaxmlReport:
    """Writes the Paxml checkpoint in the folder `source` to `target`/<step>/items, a part of one leaf in memory.

    watch: told of bytes as they go. Raises CheckpointError.
    """
    check_choices(wishes, {"to": TARGETS, "qkv": tuple(QKV), "layout": LAYOUTS})
    refuse_inside(source, target)
    every = arrays_in(source)
    left_out = tuple(name for name in every if any(fnmatchcase(name, pattern) for pattern in wishes.leave_out))
    arrays = {name: stored for name, stored in every.items() if name not in left_out}
    plan, sizes = _planned(arrays, QKV[wishes.qkv])
    used = {show(path): (arrays[name], row) for path, (name, row) in plan.items()}
    tree = {path: _leaf(*used[show(path)], show(path), wishes.scan_axis) for path in plan}
    canonical = relayout(canonicalise(Flat(leaves=tree, lists=frozenset())), wishes.layout, wishes.scan_axis, 1)
    dialect = target_dialect(canonical, wishes.to)
    assembly = assemble(canonical, dialect)
    step = int(np.asarray(tree[(STEP,)]))
    flat = flatten(nest(assembly.flat))
    specs = {path: leaf for path, leaf in flat.leaves.items() if isinstance(leaf, LeafSpec)}
    computed = {path: partial(_opened, used, leaf, wishes.scan_axis) for path, leaf in specs.items()}
    nowhere = Source(items=FilePath(source), tree=FRESH, arrays={}, flat=flat)
    items, noted = FilePath(str(step)) / "items", {"scan_layers": wishes.layout == "scanned"}
    place = Place(target=FilePath(target), relative=items, noted=noted, step={}, mode="copy")
    write_planned(nowhere, make_plan(nowhere, flat, computed), place, watch)
    return PaxmlReport(
        source=str(source),
        target=str(target),
        dialect=dialect,
        step=step,
        arrays=len(arrays),
        leaves=len(assembly.flat.leaves),
        bytes=size_of(assembly.flat),
        axes=sizes,
        groups={f"{ROOT}/{group.name}": describe(group) for group in canonical.groups},
        left_out=left_out,
        notes=(*canonical.notes, *assembly.notes, *_filled(arrays)),
    )


def _filled(arrays: Mapping[str, FolderArray]) -> list[str]:
    absent = {name: stored.absent for name, stored in arrays.items() if stored.absent}
    return [f"{name}: {count} chunks are not stored and were read as the fill value" for name, count in absent.items()]


def _planned(
    arrays: Mapping[str, FolderArray], rows: Sequence[Row]
) -> tuple[dict[Path, tuple[str, Row]], dict[str, int]]:
    """Path of a Linen tree -> its array's name and row, and the sizes of the axes.

    Raises CheckpointError, naming an array, where the table and the folder do not match.
    """
    sizes = _sizes(arrays, rows)
    scalar = Row(target="", source="", axes="", turn="same")
    plan: dict[Path, tuple[str, Row]] = {(STEP,): (STEP, scalar)}
    moments = any(name.startswith("opt_states_0.") for name in arrays)
    if moments:
        plan[("opt_state", "count")] = (COUNT, scalar)
    for row in rows:
        path = tuple(row.target.split("/"))
        plan[("params", "params", *path)] = (weight_key(row), row)
        for slot in MOMENTS if moments else ():
            plan[("opt_state", slot, "params", *path)] = (moment_key(row, slot, sizes["L"]), row)
    lacking = sorted({name for name, _ in plan.values()} - set(arrays))
    if lacking:
        raise CheckpointError(
            f"{lacking[0]}: no such array, and {len(lacking) - 1} more are absent: a GPT-3 that Paxml saved holds all "
            "weights, step, and both moments of each weight or none; copy the whole step"
        )
    unknown = sorted(set(arrays) - {name for name, _ in plan.values()})
    if unknown:
        raise CheckpointError(
            f"{unknown[0]}: has no place in the decoder, and {len(unknown) - 1} more have none: leave such arrays out "
            "by name, if nothing is lost with them"
        )
    for name, row in plan.values():
        _check(arrays[name], name, row.axes, sizes)
    return plan, sizes


def _sizes(arrays: Mapping[str, FolderArray], rows: Sequence[Row]) -> dict[str, int]:
    """Size of each axis by letter: the one that most weights have, so that the odd one is named."""
    votes: dict[str, Counter[int]] = defaultdict(Counter)
    for row in rows:
        stored = arrays.get(weight_key(row))
        if stored and len(stored.shape) == len(row.axes):
            for letter, length in zip(row.axes, stored.shape, strict=True):
                votes[letter][length] += 1
    return {letter: votes[letter].most_common(1)[0][0] if votes[letter] else 0 for letter in "LVPEFHD"} | {"3": 3}


def _check(stored: FolderArray, name: str, axes: str, sizes: Mapping[str, int]) -> None:
    wanted = tuple(sizes[letter] for letter in axes)
    if stored.shape != wanted:
        raise CheckpointError(
            f"{name}: shape {stored.shape}, expected {wanted} ({axes or 'a single number'}, as the other arrays have): "
            "take all arrays from one checkpoint"
        )


def _leaf(stored: FolderArray, row: Row, name: str, scan_axis: int) -> Leaf:
    """The array, turned, as a description whose origin is `name`; a single number itself."""
    if not row.axes:
        return read_array(stored)
    # Shapes are turned as arrays are: an array of zeros that all lie in one place stands for it.
    shape = turned(np.broadcast_to(np.int8(0), stored.shape), row, scan_axis).shape
    return LeafSpec(shape, stored.dtype, origin=Stored(name))


def _opened(used: Mapping[str, tuple[FolderArray, Row]], leaf: LeafSpec, scan_axis: int) -> Values:
    """The leaf's values, read from Paxml's arrays as they are asked for."""
    assert leaf.origin is not None
    opened: dict[str, Any] = {}
    for name in stored_names(leaf.origin):
        stored, row = used[name]
        opened[name] = turned(open_array(stored), row, scan_axis)
    origin = leaf.origin

    def values(part: Part) -> np.ndarray:
        try:
            return read_part(opened.__getitem__, origin, part)
        except CheckpointError as error:
            first = used[next(stored_names(origin))][0]
            raise CheckpointError(f"{first.path}: {error}") from error

    return values


def paxml_text(report: PaxmlReport) -> str:
    """The report for a terminal."""
    axes = ", ".join(f"{letter} {size}" for letter, size in report.axes.items() if letter != "3")
    lines = [
        f"wrote     {report.target}/{report.step}/items ({report.dialect}, step {report.step})",
        f"from      {report.source} ({report.arrays} arrays of Paxml)",
        f"size      {report.leaves} leaves, {report.bytes} bytes",
        f"axes      {axes}",
        *(f"layers    {name}: {words}" for name, words in report.groups.items()),
        *(f"left out  {name}" for name in report.left_out),
        *(f"note      {note}" for note in report.notes),
    ]
    return "\n".join(lines)
