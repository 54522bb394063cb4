"""convert: one checkpoint in, the same checkpoint in another dialect or layer layout out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any, get_args

from impl.checkpoint.assembly import Assembly, Dropped, assemble
from impl.checkpoint.canonical import REFERENCE, Canonical, canonicalise
from impl.checkpoint.cycles import cycled, numbered
from impl.checkpoint.dialect import LINEN, Dialect
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.layers import ROOT, Group, describe, settle
from impl.checkpoint.leaf import Leaf, Leaves, Path, bytes_of, same_bytes, shape_of, show
from impl.checkpoint.restack import share_streams, stack, unstack
from impl.checkpoint.store import Location, locate, read_arrays, staged, write_flat
from impl.checkpoint.tree import flatten, nest

__all__ = ["ConversionReport", "convert", "named", "relayout", "target_dialect"]

TARGETS = ("auto", "linen", "nnx", *get_args(Dialect))
LAYOUTS = ("keep", "scanned", "unscanned")


@dataclass(frozen=True, kw_only=True)
class ConversionReport:
    """What a conversion did. leaves, bytes: of the target, uncompressed. dropped: leaves of the source left out.

    groups: the layer groups of the target, by name, as "stacked at axis 1, 4 layers" and the like.
    """

    source: str
    target: str
    source_dialect: Dialect
    target_dialect: Dialect
    leaves: int
    bytes: int
    groups: Mapping[str, str]
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]


def convert(
    source: FilePath, target: FilePath, *, to: str, layout: str, scan_axis: int, cycle: int = 1
) -> ConversionReport:
    """Writes the checkpoint at `source` to `target` in another dialect, layer layout, or both.

    to: "auto" (the other format), "linen", "nnx" or a dialect by name. layout: "keep", "scanned" or "unscanned".
    scan_axis: where layers are stacked, and where they are taken to be stacked when the tree fits several axes.
    cycle: how many layers a block of the scanned layout holds, which no unscanned tree tells.
    The target has the container of the source: a step directory gives a step directory. It is read back and compared
    byte for byte before it gets its name. Raises CheckpointError.
    """
    if to not in TARGETS:
        raise CheckpointError(f"to={to!r}, expected one of {list(TARGETS)}: choose one of these")
    if layout not in LAYOUTS:
        raise CheckpointError(f"layout={layout!r}, expected one of {list(LAYOUTS)}: choose one of these")
    if scan_axis < 0 or cycle < 1:
        raise CheckpointError(
            f"scan_axis={scan_axis}, cycle={cycle}, expected at least 0 and 1: the axis counts from the front"
        )
    location = locate(source)
    if FilePath(target).absolute().is_relative_to(location.source):
        raise CheckpointError(
            f"{target}: lies inside the source {source}, which is only read: give a folder outside it"
        )
    with staged(FilePath(target)) as stage:
        canonical = canonicalise(read_arrays(location))
        dialect = target_dialect(canonical, to)
        changed = relayout(canonical, layout, scan_axis, cycle)
        assembly = assemble(changed, dialect)
        write_flat(stage, location.relative, assembly.flat, _custom(location.custom_metadata, changed.groups))
        _verify(stage / location.relative, assembly)
    return _report(FilePath(source), FilePath(target), changed, dialect, assembly)


def target_dialect(canonical: Canonical, to: str) -> Dialect:
    """The dialect that `to` means for this checkpoint: Linen with aux is D2, Linen without is D1, NNX is D3."""
    if to in get_args(Dialect):
        return to  # type: ignore[return-value]
    linen = to == "linen" or (to == "auto" and canonical.dialect not in LINEN)
    beside = canonical.aux or "nnx_aux" in canonical.collections
    return "D3" if not linen else "D2" if beside else "D1"


def relayout(canonical: Canonical, layout: str, scan_axis: int, cycle: int) -> Canonical:
    """`canonical` with every layer group stacked ("scanned"), taken apart ("unscanned"), or as it is ("keep").

    A stack is made of blocks of `cycle` layers; how many a stack holds that is taken apart, its names say.
    """
    notes: list[str] = []
    for group in canonical.groups:
        if layout == "keep" or (layout == "scanned") == (group.form == "stacked"):
            if layout == "scanned" and group.axis not in (-1, scan_axis):
                notes.append(
                    f"{ROOT}/{group.name} is stacked at axis {group.axis} already and stays so; "
                    "unscan it first to move it"
                )
            continue
        if layout == "unscanned":
            canonical = _move(canonical, group, layout, scan_axis)
            canonical = numbered(canonical, named(canonical.groups, group.name))
        else:
            canonical = cycled(canonical, group, cycle)
            canonical = _move(canonical, named(canonical.groups, group.name), layout, scan_axis)
    return replace(canonical, notes=(*canonical.notes, *notes))


def named(groups: tuple[Group, ...], name: str) -> Group:
    """The group called `name`."""
    return next(group for group in groups if group.name == name)


def _move(canonical: Canonical, group: Group, layout: str, scan_axis: int) -> Canonical:
    """One group moved in the weights, in every slot and in all other state alike."""
    if layout == "unscanned":
        settled = settle(group, canonical.weights, scan_axis)
        axis, step, after = settled.axis, unstack, replace(settled, form="suffixed", axis=-1, candidates=())
    else:
        settled, axis, step = group, scan_axis, stack
        aux, notes = share_streams(canonical.aux, group)
        canonical = replace(canonical, aux=aux, notes=(*canonical.notes, *notes))
        after = replace(group, form="stacked", axis=axis, candidates=((axis, group.depth),))
    _check_mirrors(canonical)

    def moved(tree: Leaves, at: int) -> dict[Path, Leaf]:
        return step(tree, settled, at)

    trees = {
        name: moved(tree, axis if name == REFERENCE else 0) if name != "nnx_aux" else tree
        for name, tree in canonical.collections.items()
    }
    return replace(
        canonical,
        weights=moved(canonical.weights, axis),
        slots={name: moved(tree, axis) for name, tree in canonical.slots.items()},
        aux=moved(canonical.aux, 0),
        collections=trees,
        groups=tuple(after if other.name == group.name else other for other in canonical.groups),
    )


def _check_mirrors(canonical: Canonical) -> None:
    for name, tree in canonical.slots.items():
        for path, leaf in tree.items():
            weight = canonical.weights[path]
            if leaf is not None and shape_of(leaf) != shape_of(weight):
                raise CheckpointError(
                    f"slot {name}, {show(path)}: shape {shape_of(leaf)}, its weight has {shape_of(weight)}: a factored "
                    "optimizer's state has no layer axis of its own; keep the layout"
                )


def _custom(before: Mapping[str, Any], groups: tuple[Group, ...]) -> dict[str, Any]:
    # MaxText's readers trust this flag over the tree, so it has to follow the layout.
    if not groups:
        return dict(before)
    return {**before, "scan_layers": any(group.form == "stacked" for group in groups)}


def _verify(items: FilePath, assembly: Assembly) -> None:
    # Called while the folder still carries Orbax's mark of the unfinished, which locate would refuse.
    written = read_arrays(Location(source=items, items=items, relative=FilePath("."), custom_metadata={}))
    expected = flatten(nest(assembly.flat)).leaves  # gaps in lists filled, as the writer fills them
    for path in sorted(set(written.leaves) | set(expected)):
        if path not in expected or path not in written.leaves:
            raise CheckpointError(f"{show(path)}: written and read back, it is not the same tree: report this as a bug")
        if not same_bytes(written.leaves[path], expected[path]):
            raise CheckpointError(f"{show(path)}: other bytes after reading back: check the disk and convert again")


def _report(
    source: FilePath, target: FilePath, canonical: Canonical, dialect: Dialect, assembly: Assembly
) -> ConversionReport:
    leaves = assembly.flat.leaves
    return ConversionReport(
        source=str(source),
        target=str(target),
        source_dialect=canonical.dialect,
        target_dialect=dialect,
        leaves=len(leaves),
        bytes=sum(bytes_of(leaf) for leaf in leaves.values()),
        groups={f"{ROOT}/{group.name}": describe(_named(group, dialect)) for group in canonical.groups},
        dropped=assembly.dropped,
        notes=(*canonical.notes, *assembly.notes),
    )


def _named(group: Group, dialect: Dialect) -> Group:
    """`group` with the form that its names have in that dialect."""
    return group if group.form == "stacked" else replace(group, form="suffixed" if dialect in LINEN else "nested")
