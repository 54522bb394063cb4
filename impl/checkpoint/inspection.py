"""inspect: what a checkpoint is, from its metadata alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from impl.checkpoint.dialects.canonical import Canonical, canonicalise, split_name
from impl.checkpoint.dialects.dialect import Dialect
from impl.checkpoint.dialects.layers import ROOT, describe
from impl.checkpoint.dialects.slots import disagreements, misnoted
from impl.checkpoint.leaves.leaf import bytes_of, dtype_of, shape_of, show
from impl.checkpoint.leaves.tree import sort_key
from impl.checkpoint.storage.location import locate
from impl.checkpoint.storage.source import open_source, specs_of

__all__ = ["Inspection", "TreeRow", "inspect"]


@dataclass(frozen=True, kw_only=True)
class TreeRow:
    """One leaf as it is stored; bytes uncompressed."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """A checkpoint described. Sizes in bytes of the arrays, uncompressed; bytes_on_disk as the files are.

    layout: layer groups in words, {"decoder/layers": "stacked at axis 1, 4 layers"}. dtypes: leaves by dtype.
    bytes_by_part: "weights", "optimizer", "state", "collections". step_dtype: "" when there is no step; its value is
    an array and is not read. aux: leaves of other model state by kind, {"rngs": 30}.
    """

    path: str
    items: str
    dialect: Dialect
    layout: Mapping[str, str]
    optimizer: str
    step_dtype: str
    leaves: int
    bytes: int
    bytes_on_disk: int
    bytes_by_part: Mapping[str, int]
    dtypes: Mapping[str, int]
    aux: Mapping[str, int]
    custom_metadata: Mapping[str, Any]
    notes: tuple[str, ...]
    rows: tuple[TreeRow, ...]


def inspect(path: FilePath) -> Inspection:
    """Describes the checkpoint at `path` without reading an array. Raises CheckpointError when it is none."""
    location = locate(path)
    flat = specs_of(open_source(location.items))
    canonical = canonicalise(flat)
    stored = {name: leaf for name, leaf in flat.leaves.items() if leaf is not None}
    files = (file for file in location.items.rglob("*") if file.is_file())
    return Inspection(
        path=str(path),
        items=str(location.items),
        dialect=canonical.dialect,
        layout={f"{ROOT}/{group.name}": describe(group) for group in canonical.groups},
        optimizer=_optimizer_kind(canonical),
        step_dtype=next((dtype_of(leaf) for leaf in canonical.step.values()), ""),
        leaves=len(stored),
        bytes=sum(bytes_of(leaf) for leaf in stored.values()),
        bytes_on_disk=sum(file.stat().st_size for file in files),
        bytes_by_part=_bytes_by_part(canonical),
        dtypes=dict(sorted(Counter(dtype_of(leaf) for leaf in stored.values()).items())),
        aux=_aux_kinds(canonical),
        custom_metadata=location.custom_metadata,
        notes=(*canonical.notes, *disagreements(canonical), *misnoted(canonical, location.custom_metadata)),
        rows=tuple(
            TreeRow(
                path=show(name),
                shape=shape_of(stored[name]),
                dtype=dtype_of(stored[name]),
                bytes=bytes_of(stored[name]),
            )
            for name in sorted(stored, key=sort_key)
        ),
    )


def _optimizer_kind(canonical: Canonical) -> str:
    """The optimizer as far as its state shows it."""
    slots, scalars = set(canonical.slots), {name for name, leaf in canonical.scalars.items() if leaf is not None}
    inner = {split_name(name)[split_name(name).index("inner_states") + 1] for name in slots if "inner_states" in name}
    if inner:
        return f"partitioned: {', '.join(sorted(inner))}"
    if any(name.startswith("inner_state/") for name in slots | scalars):
        return "wrapped, with its own inner state (skip_step_on_spikes or alike)"
    if slots == {"mu", "nu"} and "count" in scalars:
        return "adam_pax (flat count, mu, nu)"
    if slots == {"0/mu", "0/nu"} and "0/count" in scalars:
        return "adamw (chain of count, mu, nu)"
    if not slots and any(name.endswith("count") for name in scalars):
        return "sgd (a count and no slots)"
    if not slots and not scalars - {""}:
        return "none"
    return f"unknown: slots {sorted(slots)}, others {sorted(scalars)}"


def _bytes_by_part(canonical: Canonical) -> dict[str, int]:
    slots = [leaf for tree in canonical.slots.values() for leaf in tree.values()]
    parts = {
        "weights": [*canonical.weights.values()],
        "optimizer": [*slots, *canonical.scalars.values(), *canonical.step.values()],
        "state": [*canonical.aux.values()],
        "collections": [leaf for tree in canonical.collections.values() for leaf in tree.values()],
    }
    return {part: sum(bytes_of(leaf) for leaf in leaves) for part, leaves in parts.items() if leaves}


def _aux_kinds(canonical: Canonical) -> dict[str, int]:
    kinds = Counter("rngs" if any(part.endswith("rngs") for part in path) else path[-1] for path in canonical.aux)
    return dict(sorted(kinds.items()))
