"""convert: one checkpoint in, the same checkpoint in another dialect or layer layout out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Literal, get_args

import numpy as np

from impl.checkpoint.checksums.manifest import FILE
from impl.checkpoint.conversion.plan import Plan, make_plan
from impl.checkpoint.conversion.tracing import carry_manifest
from impl.checkpoint.conversion.transfer import Transfer, carry_out
from impl.checkpoint.conversion.verification import check_tree, check_values
from impl.checkpoint.dialects.assembly import Assembly, Dropped, assemble
from impl.checkpoint.dialects.canonical import Canonical, canonicalise
from impl.checkpoint.dialects.dialect import LINEN, Dialect
from impl.checkpoint.dialects.layers import ROOT, Group, describe
from impl.checkpoint.dialects.relayout import relayout, target_dialect
from impl.checkpoint.dialects.slots import misnoted
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.leaf import Leaf, LeafSpec, Leaves, Path, bytes_of
from impl.checkpoint.leaves.tree import Flat, flatten, nest
from impl.checkpoint.progress import Watch
from impl.checkpoint.storage.data_files import Mode, carry_tree
from impl.checkpoint.storage.index import keys_of
from impl.checkpoint.storage.location import ITEM_NAMES, Location, abandoned, leftovers, locate, staged, sync
from impl.checkpoint.storage.orbax_metadata import COMMITTED, STEP, check_orbax, write_step
from impl.checkpoint.storage.source import Source, open_source, strangers
from impl.checkpoint.storage.values import Reader

__all__ = ["ConversionReport", "Request", "convert", "convert_as"]

TARGETS = ("auto", "linen", "nnx", *get_args(Dialect))
LAYOUTS = ("keep", "scanned", "unscanned")


@dataclass(frozen=True, kw_only=True)
class Request:
    """A conversion that is asked for. The checkpoint at `source` goes to `target` in another dialect, layout, or both.

    to: "auto" (the other format), "linen", "nnx" or a dialect by name. layout: "keep", "scanned" or "unscanned".
    scan_axis: where layers are stacked, and where they are taken to be stacked when the tree fits several axes.
    cycle: how many layers a block of the scanned layout holds, which no unscanned tree tells.
    mode: "link" shares the source's data files, "copy" copies them, "auto" links where it can.
    verify: "structure" holds names, shapes, dtypes and chunks of the target against the plan, "values" all values too.
    """

    source: FilePath
    target: FilePath
    to: str
    layout: str
    scan_axis: int
    cycle: int = 1
    mode: Mode = "auto"
    verify: Literal["structure", "values"] = "structure"


@dataclass(frozen=True, kw_only=True)
class ConversionReport:
    """What a conversion did. leaves, bytes: of the target, uncompressed. dropped: leaves of the source left out.

    groups: the layer groups of the target, by name, as "stacked at axis 1, 4 layers" and the like.
    transfer: how the target came by its bytes. verified: leaves whose values were read back and found equal.
    """

    source: str
    target: str
    source_dialect: Dialect
    target_dialect: Dialect
    leaves: int
    bytes: int
    groups: Mapping[str, str]
    transfer: Transfer
    verified: int
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]


def convert(
    source: FilePath, target: FilePath, *, to: str, layout: str, scan_axis: int, cycle: int = 1
) -> ConversionReport:
    """Writes the checkpoint at `source` to `target`; the words mean what they do in a Request. Raises CheckpointError.

    Linked where that can be, else copied, and every value is read back.
    """
    asked = Request(
        source=FilePath(source),
        target=FilePath(target),
        to=to,
        layout=layout,
        scan_axis=scan_axis,
        cycle=cycle,
        verify="values",
    )
    return convert_as(asked, lambda moved, total: None)


def convert_as(request: Request, watch: Watch) -> ConversionReport:
    """Does what is requested, telling `watch` of bytes as they are moved.

    The target has the container of the source: a step directory gives a step directory, with what else lies in it.
    It gets its name when it is complete and verified. Raises CheckpointError, and nothing is left at the target.
    """
    _check_request(request)
    location = locate(request.source)
    if request.target.absolute().is_relative_to(location.source):
        raise CheckpointError(
            f"{request.target}: lies inside the source {request.source}, which is only read: give a folder outside it"
        )
    check_orbax()
    source = open_source(location.items)
    canonical = canonicalise(source.flat)
    dialect = target_dialect(canonical, request.to)
    changed = relayout(canonical, request.layout, request.scan_axis, request.cycle)
    assembly = assemble(replace(changed, step=_counted(source, changed.step)), dialect)
    flat = flatten(nest(_uncounted(assembly.flat, canonical.step)))  # gaps in lists are filled, as Orbax has them
    plan = make_plan(source, flat, {})
    reading = sum(map(bytes_of, flat.leaves.values())) if request.verify == "values" else 0
    gone = abandoned(request.target)
    with staged(request.target) as stage:
        items = stage / location.relative
        transfer = carry_out(source, plan, items, request.mode, lambda count, total: watch(count, total + reading))
        left = _write_container(location, items, transfer.mode, changed.groups)
        verified = _verify(source, plan, items, transfer, _told(watch, transfer, reading))
        traced = carry_manifest(source, plan, flat, items, lambda count, total: None)
    beside = [*misnoted(canonical, location.custom_metadata), *left, *_beside(source, request.target, traced, gone)]
    return _report(request, changed, dialect, replace(assembly, notes=(*assembly.notes, *beside)), (transfer, verified))


def _check_request(request: Request) -> None:
    choices = {"to": TARGETS, "layout": LAYOUTS, "mode": get_args(Mode), "verify": ("structure", "values")}
    for name, values in choices.items():
        if getattr(request, name) not in values:
            raise CheckpointError(
                f"{name}={getattr(request, name)!r}, expected one of {list(values)}: choose one of these"
            )
    if request.scan_axis < 0 or request.cycle < 1:
        raise CheckpointError(
            f"scan_axis={request.scan_axis}, cycle={request.cycle}, expected at least 0 and 1: the axis counts from "
            "the front"
        )


def _counted(source: Source, step: Leaves) -> dict[Path, Leaf]:
    """The step counter itself: whether it fits the other dialect's dtype is a matter of its value."""
    reader = Reader(source.items, room=0)
    return {
        path: reader.read(source, leaf.origin)
        if isinstance(leaf, LeafSpec) and leaf.origin and not leaf.shape and not leaf.impl
        else leaf
        for path, leaf in step.items()
    }


def _uncounted(flat: Flat, step: Leaves) -> Flat:
    """`flat` with the step as it is stored, where its dtype stayed the same."""
    stored = step.get(())

    def leaf_of(leaf: Leaf) -> Leaf:
        same = isinstance(leaf, np.ndarray) and isinstance(stored, LeafSpec) and str(leaf.dtype) == stored.dtype
        return stored if same else leaf

    return Flat(leaves={path: leaf_of(leaf) for path, leaf in flat.leaves.items()}, lists=flat.lists)


def _write_container(
    location: Location, items: FilePath, mode: Literal["link", "copy"], groups: tuple[Group, ...]
) -> list[str]:
    """What lies around the tree: the notes on the step, Orbax's mark of success, and other items of the same step.

    Returns a note on what was left behind.
    """
    noted = dict(location.custom_metadata)
    if groups:
        # MaxText's readers trust this flag over the tree, so it has to follow the layout.
        noted["scan_layers"] = any(group.form == "stacked" for group in groups)
    inside = items.name if location.relative.name in ITEM_NAMES else ""
    root = items.parent if inside else items
    write_step(root, location.step, inside, noted)
    for folder, before in {items: location.items, root: location.items.parent if inside else location.items}.items():
        if (before / COMMITTED).is_file():
            carry_tree(before / COMMITTED, folder / COMMITTED, "copy")
    left: list[str] = []
    for child in sorted(location.items.parent.iterdir()) if inside else ():
        if child.name not in (items.name, STEP, COMMITTED):
            left += map(str, carry_tree(child, root / child.name, mode))
    for folder in (items, *items.parents[: len(location.relative.parts)]):
        sync(folder)
    return [f"{', '.join(left)}: neither a file nor a folder, and not carried over"] if left else []


def _told(watch: Watch, transfer: Transfer, reading: int) -> Callable[[int], None] | None:
    """What is told of bytes that are read back, None where none are."""
    return (lambda count: watch(count, transfer.moved_bytes + reading)) if reading else None


def _verify(
    source: Source, plan: Plan, items: FilePath, transfer: Transfer, moved: Callable[[int], None] | None
) -> int:
    """Holds what was written against the plan; returns how many leaves' values were read back, none without `moved`.

    Called while the folder still carries Orbax's mark of the unfinished, which locate would refuse.
    """
    if transfer.entries and keys_of(items) != sorted(transfer.entries):
        raise CheckpointError(f"{items}: its index has other keys than were written: check the disk and convert again")
    check_tree(plan, items)
    return check_values(source, plan, items, moved) if moved else 0


def _beside(source: Source, target: FilePath, traced: int, gone: tuple[str, ...]) -> list[str]:
    """Notes on what lies beside the source's tree and beside the target.

    traced: leaves with a digest of the source. gone: what killed writers had left, and was removed.
    """
    notes = [f"{FILE} was carried over: {traced} leaves are traced to the source's"] if traced else []
    if strange := [name for name in strangers(source) if name != FILE]:
        notes.append(f"{', '.join(strange)} lie beside the tree, are none of Orbax's, and were not carried over")
    if gone:
        notes.append(f"a writer that was killed had left {', '.join(gone)} beside the target: it was removed")
    if left := leftovers(target):
        notes.append(f"{', '.join(left)} lies beside the target: of a writer that still runs, or was interrupted")
    return notes


def _report(
    request: Request, canonical: Canonical, dialect: Dialect, assembly: Assembly, done: tuple[Transfer, int]
) -> ConversionReport:
    leaves = assembly.flat.leaves
    return ConversionReport(
        source=str(request.source),
        target=str(request.target),
        source_dialect=canonical.dialect,
        target_dialect=dialect,
        leaves=len(leaves),
        bytes=sum(bytes_of(leaf) for leaf in leaves.values()),
        groups={f"{ROOT}/{group.name}": describe(_named(group, dialect)) for group in canonical.groups},
        transfer=done[0],
        verified=done[1],
        dropped=assembly.dropped,
        notes=(*canonical.notes, *assembly.notes),
    )


def _named(group: Group, dialect: Dialect) -> Group:
    """`group` with the form that its names have in that dialect."""
    return group if group.form == "stacked" else replace(group, form="suffixed" if dialect in LINEN else "nested")
