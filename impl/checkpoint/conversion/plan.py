"""What a conversion has to do for each leaf of the target: only to enter it in the index, or to read and write it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from impl.checkpoint.conversion.templates import fresh, template
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.dtypes import dtype_named
from impl.checkpoint.leaves.leaf import Empty, Leaf, LeafSpec, Path, show
from impl.checkpoint.leaves.origin import Origin, Stack, Stored
from impl.checkpoint.leaves.tree import Flat
from impl.checkpoint.storage.chunks import (
    check_chunks,
    dtype_of_array,
    layer_of_array,
    stack_of_arrays,
)
from impl.checkpoint.storage.index import StoredArray
from impl.checkpoint.storage.orbax_metadata import OrbaxTree
from impl.checkpoint.storage.source import Source
from impl.checkpoint.storage.values import Values

__all__ = ["Computed", "Opens", "Plan", "Rewrite", "make_plan"]

PIECE = 4 << 20  # bytes of a chunk of what is computed; all that is in memory of it at a time
Opens = Callable[[], Values]
"""Makes ready to give the values of a leaf; what it holds in memory meanwhile goes with what it returns."""

ON_FIRST_DEVICE = {
    "sharding_type": "NamedSharding",
    "shape": [1],
    "axis_names": ["device"],
    "axis_types": ["AxisType.Auto"],
    "partition_spec": [],
    "device_mesh": {"mesh": [{"id": 0}]},
}


@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """A leaf whose chunks have to be made. array: as it will be stored, without chunks. origin: its values."""

    array: StoredArray
    origin: Origin


@dataclass(frozen=True, kw_only=True)
class Computed:
    """A leaf whose values are nowhere yet. array: as it will be stored, without chunks."""

    array: StoredArray
    opens: Opens


@dataclass(frozen=True, kw_only=True)
class Plan:
    """tree: what Orbax will read. By dotted name of the target, each leaf in one of:

    relinked: arrays whose chunks lie in the source already. rewritten: those whose chunks are made anew. literals:
    small arrays that the conversion itself made. computed: those made of other leaves by arithmetic. origins: where
    the values of the first two come from.
    """

    tree: OrbaxTree
    relinked: Mapping[str, StoredArray]
    rewritten: Mapping[str, Rewrite]
    literals: Mapping[str, tuple[StoredArray, np.ndarray]]
    computed: Mapping[str, Computed]
    origins: Mapping[str, Origin]


@dataclass
class _Draft:
    kinds: dict[Path, str] = field(default_factory=dict)
    strings: dict[str, str] = field(default_factory=dict)
    shardings: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    generators: dict[str, str] = field(default_factory=dict)
    relinked: dict[str, StoredArray] = field(default_factory=dict)
    rewritten: dict[str, Rewrite] = field(default_factory=dict)
    literals: dict[str, tuple[StoredArray, np.ndarray]] = field(default_factory=dict)
    computed: dict[str, Computed] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)


def make_plan(source: Source, flat: Flat, computed: Mapping[Path, Opens]) -> Plan:
    """The plan for a target tree whose leaves are descriptions that know their origin in `source`.

    computed: how to come by the values of leaves that are to be made anew, whatever their origin. They are stored in
    small chunks, compressed as Orbax does it.
    Arrays are noted as NumPy's, so that a restore without a target works on any machine; how the source's lay on its
    devices stays noted for restores that ask. Typed keys have to be jax's, and are noted to lie on the first device.
    Raises CheckpointError where two leaves would be stored under one name.
    """
    draft = _Draft()
    for path, leaf in flat.leaves.items():
        name = ".".join(path)
        if any(name in known for known in (draft.relinked, draft.rewritten, draft.literals, draft.computed)):
            raise CheckpointError(f"{show(path)}: another leaf is stored as {name!r} too: rename the key with a dot")
        if path in computed and isinstance(leaf, LeafSpec):
            draft.kinds[path] = "np.ndarray"
            array = fresh(name, _form(source), leaf.shape, dtype_named(leaf.dtype), PIECE)
            draft.computed[name] = Computed(array=array, opens=computed[path])
        elif isinstance(leaf, LeafSpec):
            _add_array(draft, source, path, leaf)
        else:
            draft.kinds[path] = _add_other(draft, source, name, leaf)
    tree = replace(
        source.tree,
        kinds=draft.kinds,
        lists=flat.lists,
        strings=draft.strings,
        shardings=draft.shardings,
        generators=draft.generators,
    )
    return Plan(
        tree=tree,
        relinked=draft.relinked,
        rewritten=draft.rewritten,
        literals=draft.literals,
        computed=draft.computed,
        origins=draft.origins,
    )


def _add_array(draft: _Draft, source: Source, path: Path, leaf: LeafSpec) -> None:
    name, origin = ".".join(path), leaf.origin
    if origin is None:
        raise CheckpointError(f"{show(path)}: the source of its values was lost on the way: report this as a bug")
    draft.origins[name] = origin
    array = _relinked(source, origin)
    if array is not None:
        draft.relinked[name] = replace(array, name=name)
    else:
        draft.rewritten[name] = Rewrite(array=replace(template(source, origin), name=name, chunks={}), origin=origin)
    _check(draft.relinked[name] if array else draft.rewritten[name].array, path, leaf, source.tree.every_chunk)
    noted = _sharding(source, origin)
    if leaf.impl:
        draft.kinds[path] = "jax.Array"
        draft.generators[name] = leaf.impl
        draft.shardings[name] = ON_FIRST_DEVICE
        return
    plain = isinstance(origin, Stored) and source.kinds[origin.name] == "scalar"
    draft.kinds[path] = "scalar" if plain else "np.ndarray"
    if noted:
        draft.shardings[name] = noted


def _check(array: StoredArray, path: Path, leaf: LeafSpec, every_chunk: bool) -> None:
    """Raises CheckpointError where an array that was put together is not what the tree says of the leaf."""
    if array.shape != leaf.shape or dtype_of_array(array) != dtype_named(leaf.dtype):
        raise CheckpointError(
            f"{show(path)}: {leaf.dtype} {leaf.shape} would be stored as {array.dtype} {array.shape}: report this bug"
        )
    if array.chunks and not isinstance(leaf.origin, Stored):
        check_chunks(array, every="every" if every_chunk else "some")


def _add_other(draft: _Draft, source: Source, name: str, leaf: Leaf) -> str:
    """Notes a leaf that is no stored array of the source, and returns its kind."""
    if leaf is None:
        return "None"
    if isinstance(leaf, Empty):
        return "Dict" if leaf.kind == "dict" else "List"
    if isinstance(leaf, str):
        draft.strings[name] = leaf
        return "string"
    if not isinstance(leaf, np.ndarray):
        raise CheckpointError(f"{name}: a {type(leaf).__name__} is no description of a leaf: report this as a bug")
    draft.literals[name] = (fresh(name, _form(source), leaf.shape, leaf.dtype, max(leaf.nbytes, 1)), leaf)
    return "np.ndarray"


def _relinked(source: Source, origin: Origin) -> StoredArray | None:
    """`origin` in chunks that lie in the source, None where its chunks have to be made."""
    if isinstance(origin, Stored):
        return source.arrays[origin.name]
    if isinstance(origin, Stack):
        parts = [_relinked(source, part) for part in origin.of]
        found = [part for part in parts if part is not None]
        return stack_of_arrays(found, origin.axis) if len(found) == len(parts) else None
    whole = _relinked(source, origin.of)
    return layer_of_array(whole, origin.index, origin.axis) if whole else None


def _form(source: Source) -> Literal["zarr2", "zarr3"]:
    return "zarr3" if source.tree.zarr3 else "zarr2"


def _sharding(source: Source, origin: Origin) -> Mapping[str, Any]:
    """How `origin` lay on devices, {} where that is not noted. A layers' axis is never spread."""
    if isinstance(origin, Stored):
        return source.tree.shardings.get(origin.name, {})
    noted = _sharding(source, origin.of[0] if isinstance(origin, Stack) else origin.of)
    spec = list(noted.get("partition_spec") or [])
    if len(spec) < origin.axis + (not isinstance(origin, Stack)):
        return noted
    after = [None, *spec[origin.axis :]] if isinstance(origin, Stack) else spec[origin.axis + 1 :]
    return {**noted, "partition_spec": [*spec[: origin.axis], *after]} if "partition_spec" in noted else noted
