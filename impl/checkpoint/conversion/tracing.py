"""The manifest of a converted checkpoint: what the source's manifest promises carried over, the rest read."""

from __future__ import annotations

from pathlib import Path as FilePath

from impl.checkpoint.checksums.lineage import Made, Part, carried
from impl.checkpoint.checksums.manifest import FILE, read_manifest, write_manifest
from impl.checkpoint.checksums.sealing import sealed_side
from impl.checkpoint.conversion.plan import Plan
from impl.checkpoint.leaves.leaf import LeafSpec, dtype_of, show
from impl.checkpoint.leaves.origin import Layer, Origin, Stack, Stored
from impl.checkpoint.leaves.tree import Flat
from impl.checkpoint.progress import Watch
from impl.checkpoint.storage.sides import opened_items
from impl.checkpoint.storage.source import Source

__all__ = ["carry_manifest", "made_of"]


def carry_manifest(source: Source, plan: Plan, flat: Flat, items: FilePath, watch: Watch) -> int:
    """Writes the manifest of the conversion at `items`, if its source has one; returns how many leaves are traced.

    flat: the target's tree, leaves with their origin. Raises CheckpointError for a source's manifest that is damaged or
    of another checkpoint.
    """
    if not (source.items / FILE).is_file():
        return 0
    made = made_of(source, plan, flat)
    known = carried(read_manifest(source.items), made)
    write_manifest(items, sealed_side(opened_items(items), known, watch))
    return len(made)


def made_of(source: Source, plan: Plan, flat: Flat) -> dict[str, Made]:
    """Path of a leaf of the target -> what it is made of. Leaves that the conversion made itself are not among them."""
    names = {".".join(path): show(path) for path in source.flat.leaves}
    found: dict[str, Made] = {}
    for path, leaf in flat.leaves.items():
        if not isinstance(leaf, LeafSpec) or leaf.origin is None:
            continue
        origin = leaf.origin
        parts = [_part(each, names) for each in (origin.of if isinstance(origin, Stack) else (origin,))]
        origins = tuple(part for part in parts if part is not None)
        if len(origins) == len(parts):
            found[show(path)] = Made(
                shape=leaf.shape,
                dtype=dtype_of(leaf),
                origins=origins,
                axis=origin.axis if isinstance(origin, Stack) else -1,
                chunks="same" if ".".join(path) in plan.relinked else "new",
            )
    return found


def _part(origin: Origin, names: dict[str, str]) -> Part | None:
    """A stored leaf or a layer of one; None for what took more steps."""
    if isinstance(origin, Stored):
        return Part(leaf=names[origin.name])
    if isinstance(origin, Layer) and isinstance(origin.of, Stored):
        return Part(leaf=names[origin.of.name], axis=origin.axis, index=origin.index)
    return None
