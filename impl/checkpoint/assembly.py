"""From the canonical form back to a tree of one dialect."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from impl.checkpoint.canonical import Canonical, split_name
from impl.checkpoint.dialect import LINEN, Dialect
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.layers import nested_names
from impl.checkpoint.leaf import Leaf, LeafSpec, Leaves, Path, shape_of, show
from impl.checkpoint.tree import Flat

__all__ = ["Assembly", "Dropped", "assemble"]


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

    Raises CheckpointError when the step does not fit the other dialect's dtype.
    """
    return _linen(canonical, dialect) if dialect in LINEN else _nnx(canonical, dialect)


def _linen(canonical: Canonical, dialect: Dialect) -> Assembly:
    leaves: dict[Path, Leaf] = _prefixed(("params", "params"), canonical.weights)
    for name, tree in canonical.collections.items():
        leaves |= _prefixed(("nnx_aux",) if name == "nnx_aux" else ("params", name), tree)
    for name, tree in canonical.slots.items():
        level = () if name in canonical.bare_slots else ("params",)
        leaves |= _prefixed(("opt_state", *split_name(name), *level), tree)
    leaves |= {("opt_state", *split_name(name)): leaf for name, leaf in canonical.scalars.items()}
    step, notes = _step(canonical.step, "int32")
    leaves |= _prefixed(("step",), step)
    dropped: tuple[Dropped, ...] = ()
    if dialect == "D2":
        leaves |= _prefixed(("nnx_aux", "model"), canonical.aux)
        if not canonical.aux:
            notes = (*notes, "there is no state besides the weights, so the tree is the same as D1")
    else:
        reason = "D1 has no place for streams and other model state; ask for D2 to keep it"
        dropped = tuple(Dropped(path=show(path), reason=reason) for path in canonical.aux)
    nested = [name for name in canonical.slots if "inner_state" in name and name not in canonical.bare_slots]
    if nested and canonical.dialect not in LINEN:
        notes = (*notes, f"slots {nested} got a params level, as Linen has; NNX releases write none in nested states")
    lists = frozenset(("opt_state", *split_name(name)) for name in canonical.lists)
    return Assembly(flat=Flat(leaves=leaves, lists=lists), dropped=dropped, notes=notes)


def _nnx(canonical: Canonical, dialect: Dialect) -> Assembly:
    both = sorted(set(canonical.weights) & set(canonical.aux))
    if both:
        raise CheckpointError(f"{show(both[0])} is a weight and state at once: rename one of the two")
    model = {nested_names(path): leaf for path, leaf in (canonical.weights | canonical.aux).items()}  # type: ignore[operator]
    optimizer: dict[Path, Leaf] = {}
    for name, tree in canonical.slots.items():
        inner = {nested_names(path): leaf for path, leaf in tree.items()}
        optimizer |= _prefixed(("optimizer", "opt_state", *split_name(name)), inner)
    gone = [name for name, leaf in canonical.scalars.items() if leaf is None]
    scalars = {name: leaf for name, leaf in canonical.scalars.items() if leaf is not None}
    optimizer |= {("optimizer", "opt_state", *split_name(name)): leaf for name, leaf in scalars.items()}
    step, notes = _step(canonical.step, "uint32")
    optimizer |= _prefixed(("optimizer", "step"), step)
    extra: dict[Path, Leaf] = {}
    for name, tree in canonical.collections.items():
        inner = {nested_names(path): leaf for path, leaf in tree.items()}
        extra |= _prefixed(("collections", name), inner)
        notes = (*notes, f"collection {name!r} is kept below collections/: no NNX release reads it from there")
    bare = dialect == "D4" and not optimizer and not extra
    leaves = _prefixed(() if bare else ("model",), model) | optimizer | extra
    if dialect == "D4":
        leaves = {(*path, "value") if _is_value(leaf) else path: leaf for path, leaf in leaves.items()}
    reason = "an empty optimizer state: NNX trees leave it out, and going back to Linen fills the gap"
    dropped = tuple(Dropped(path=f"opt_state/{name}", reason=reason) for name in gone)
    return Assembly(flat=Flat(leaves=leaves, lists=frozenset()), dropped=dropped, notes=notes)


def _is_value(leaf: Leaf) -> bool:
    return (leaf is not None and hasattr(leaf, "__array__")) or type(leaf).__name__ in ("KeyArray", "LeafSpec")


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
