"""From the canonical form back to a tree of one dialect."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from impl.checkpoint.dialects.canonical import Canonical
from impl.checkpoint.dialects.dialect import LINEN, Dialect
from impl.checkpoint.dialects.kinds import STATISTICS, in_value, inside_and_beside, place_of
from impl.checkpoint.dialects.layers import is_array, nested_names
from impl.checkpoint.dialects.optimizers import is_nested, numbered_places, split_name
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.leaf import Leaf, LeafSpec, Leaves, Path, shape_of, show
from impl.checkpoint.leaves.tree import Flat

__all__ = ["Assembly", "Dropped", "assemble"]

_LEVELS = {"params": 2, "nnx_aux": 2, "collections": 2, "model": 1, "opt_state": -1, "optimizer": -1, "step": -1}
"""Top of a tree -> levels above the model there; -1 where no model is, and every other top is the model's own."""


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A leaf of the source that the target has no place for, and why."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """A tree ready to be written, what was left out of it, and what its reader should know."""

    flat: Flat
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]


def assemble(canonical: Canonical, dialect: Dialect) -> Assembly:
    """`canonical` as a tree of `dialect`. Leaves are passed on as they are; only the step changes its dtype.

    Raises CheckpointError for a step that does not fit the other dialect's dtype.
    """
    return _linen(canonical, dialect) if dialect in LINEN else _nnx(canonical, dialect)


def _linen(canonical: Canonical, dialect: Dialect) -> Assembly:
    leaves: dict[Path, Leaf] = _prefixed(("params", "params"), canonical.weights)
    inside, collections = inside_and_beside(canonical.collections) if dialect == "D2" else ({}, canonical.collections)
    beside = {**canonical.aux, **inside}
    for name, tree in collections.items():
        leaves |= _prefixed(("nnx_aux",) if name == "nnx_aux" else ("params", name), tree)
    state, gone, notes = _linen_state(canonical, dialect)
    leaves |= state.leaves
    step, more = _step(canonical.step, "int32")
    leaves |= _prefixed(("step",), step)
    dropped = _gone(gone)
    if dialect == "D2":
        leaves |= _prefixed(("nnx_aux", "model"), beside)
        if not beside and "nnx_aux" not in canonical.collections:
            more = (*more, "there is no state besides the weights, so the tree is the same as D1")
    else:
        reason = "D1 has no place for streams and other model state; ask for D2 to keep it"
        dropped += tuple(Dropped(path=show(path), reason=reason) for path in canonical.aux)
    lists = state.lists | _lists(canonical, leaves)
    return Assembly(flat=Flat(leaves=leaves, lists=lists), dropped=dropped, notes=(*more, *notes))


def _linen_state(canonical: Canonical, dialect: Dialect) -> tuple[Flat, tuple[str, ...], tuple[str, ...]]:
    """opt_state, the empty states left out, and notes: D1 as Linen writes it, D2 as NNX does (what was D2 stays)."""
    bare, lists = canonical.bare_slots, canonical.lists
    gone: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    nested = sorted(name for name in canonical.slots if is_nested(name))
    if dialect == "D1":
        numbered = numbered_places((*canonical.slots, *canonical.scalars))
        lists = lists | frozenset(place for place in numbered if is_nested(place))
        if STATISTICS in canonical.collections:
            # Flax's train state hands the optimizer what is below params alone, so that no slot has the level.
            bare = bare if canonical.dialect == "D1" else frozenset(canonical.slots)
        else:
            if nested and (canonical.dialect != "D1" or bare & set(nested)):
                notes = (f"slots {nested} got a params level, as Linen has; NNX releases write none in nested states",)
            bare = bare - set(nested)
    elif canonical.dialect != "D2":
        bare = frozenset(nested) | (bare if STATISTICS not in canonical.collections else frozenset())
        lists = frozenset(place for place in lists if not is_nested(place))
        gone = tuple(name for name, leaf in canonical.scalars.items() if leaf is None and is_nested(name))
        if nested:
            notes = (f"slots {nested} are written as NNX keeps them, without a params level: Linen reads them in D1",)
    leaves: dict[Path, Leaf] = {}
    for name, tree in canonical.slots.items():
        level = () if name in bare else ("params",)
        leaves |= _prefixed(("opt_state", *split_name(name), *level), tree)
    leaves |= {("opt_state", *split_name(name)): leaf for name, leaf in canonical.scalars.items() if name not in gone}
    return Flat(leaves=leaves, lists=frozenset(("opt_state", *split_name(name)) for name in lists)), gone, notes


def _nnx(canonical: Canonical, dialect: Dialect) -> Assembly:
    inside, collections = inside_and_beside(canonical.collections)
    model: dict[Path, Leaf] = {}
    for tree in (canonical.weights, canonical.aux, inside):
        both = sorted(set(model) & set(tree))
        if both:
            raise CheckpointError(f"{show(both[0])} is a weight and state at once: rename one of the two")
        model |= tree
    model = _nested(model)
    optimizer: dict[Path, Leaf] = {}
    for name, tree in canonical.slots.items():
        optimizer |= _prefixed(("optimizer", "opt_state", *split_name(name)), _nested(tree))
    gone = tuple(name for name, leaf in canonical.scalars.items() if leaf is None)
    scalars = {name: leaf for name, leaf in canonical.scalars.items() if leaf is not None}
    optimizer |= {("optimizer", "opt_state", *split_name(name)): leaf for name, leaf in scalars.items()}
    step, notes = _step(canonical.step, "uint32")
    optimizer |= _prefixed(("optimizer", "step"), step)
    extra: dict[Path, Leaf] = {}
    for name, beside in collections.items():
        extra |= _prefixed(("collections", name), _nested(beside))
        notes = (*notes, f"collection {name!r} is kept below collections/: no NNX release reads it from there")
    bare = dialect == "D4" and not optimizer and not extra
    leaves = _prefixed(() if bare else ("model",), model) | optimizer | extra
    lists = _lists(canonical, leaves)
    if dialect == "D4":
        leaves = {(in_value(path) if _is_value(leaf) else path): leaf for path, leaf in leaves.items()}
        lists = frozenset(in_value(path) if in_value(path)[-1] != "value" else path for path in lists)
    return Assembly(flat=Flat(leaves=leaves, lists=lists), dropped=_gone(gone), notes=notes)


def _gone(names: tuple[str, ...]) -> tuple[Dropped, ...]:
    reason = "an empty optimizer state: NNX trees leave it out, and going back to Linen fills the gap"
    return tuple(Dropped(path=f"opt_state/{name}", reason=reason) for name in names)


def _nested(tree: Leaves) -> dict[Path, Leaf]:
    return {nested_names(path): leaf for path, leaf in tree.items()}


def _lists(canonical: Canonical, leaves: Leaves) -> frozenset[Path]:
    """Paths of the lists below the model and its collections, in a tree made of `leaves`."""
    found: set[Path] = set()
    for path in leaves if canonical.model_lists else ():
        start = _LEVELS.get(path[0], 0)
        if start >= 0:
            ends = range(start + 1, len(path))
            found |= {path[:end] for end in ends if place_of(path[start:end]) in canonical.model_lists}
    return frozenset(found)


def _is_value(leaf: Leaf) -> bool:
    return is_array(leaf) or isinstance(leaf, np.generic)


def _prefixed(prefix: Path, leaves: Leaves) -> dict[Path, Leaf]:
    return {(*prefix, *path): leaf for path, leaf in leaves.items()}


def _step(step: Leaves, dtype: str) -> tuple[dict[Path, Leaf], tuple[str, ...]]:
    """The step counter at the dtype of the target: int32 in Linen, uint32 in NNX."""
    if not step:
        return {}, ("there is no step counter",)
    leaf = step.get(())
    if isinstance(leaf, LeafSpec):
        return {(): LeafSpec(leaf.shape, dtype)}, ()
    if not isinstance(leaf, np.ndarray | int) or shape_of(leaf) or np.asarray(leaf).dtype.kind not in "iu":
        raise CheckpointError(f"step: {leaf!r}, expected one whole number: take a checkpoint of one train state")
    value, limits = int(leaf), np.iinfo(dtype)
    if not limits.min <= value <= limits.max:
        raise CheckpointError(f"step: {value} does not fit {dtype} (at most {limits.max}): take an earlier checkpoint")
    was = str(np.asarray(leaf).dtype)
    notes = () if was in ("int32", "uint32") else (f"step: {was} became {dtype}",)
    return {(): np.asarray(value, dtype=dtype)}, notes
