"""entropy: a checkpoint whose moments are made of its weights, for tests that must not find zeros.

  mu := cos(1000 p),  nu := sin(1000 p)
leaf by leaf, p the weight. The product is rounded to float32, as a train step on float32 weights would; its cosine and
sine are taken in float64 and rounded once, to the dtype the slot has: NumPy's own float32 cosine misses the nearest
number for one value in six. nu may be negative: never train from such a checkpoint.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath

import numpy as np

from impl.checkpoint.dialects.canonical import canonicalise
from impl.checkpoint.dialects.dialect import Dialect
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.dtypes import is_floating
from impl.checkpoint.leaves.leaf import Leaf, Path, dtype_of, shape_of, show
from impl.checkpoint.leaves.tree import Flat
from impl.checkpoint.storage.location import locate
from impl.checkpoint.storage.whole_trees import read_arrays
from impl.checkpoint.storage.writing import refuse_inside, size_of, write_checked

__all__ = ["EntropyReport", "entropy", "entropy_text", "with_entropy"]

FACTOR = np.float32(1000)
BLOCK = 1 << 18  # elements at once: the float64 in between stay in the cache
MAKERS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {"mu": np.cos, "nu": np.sin}


@dataclass(frozen=True, kw_only=True)
class EntropyReport:
    """What was written. slots: leaves made, by their slot's place in the optimizer ("0/mu"). bytes: of the target."""

    source: str
    target: str
    dialect: Dialect
    slots: Mapping[str, int]
    leaves: int
    bytes: int


def entropy(source: FilePath, target: FilePath) -> EntropyReport:
    """Writes the checkpoint at `source` to `target` with new mu and nu; every other leaf as it is.

    Raises CheckpointError for a checkpoint that has neither, and for a target that exists.
    """
    location = locate(source)
    refuse_inside(location.source, target)
    made, slots, dialect = with_entropy(read_arrays(location))
    write_checked(target, location.relative, made, location.custom_metadata)
    leaves = len(made.leaves)
    return EntropyReport(
        source=str(source), target=str(target), dialect=dialect, slots=slots, leaves=leaves, bytes=size_of(made)
    )


def with_entropy(flat: Flat) -> tuple[Flat, Mapping[str, int], Dialect]:
    """`flat` with every mu and nu made of its weight, the leaves made by slot, and the dialect.

    Raises CheckpointError where there is no mu or nu, and for one that does not fit its weight.
    """
    canonical = canonicalise(flat)
    made: dict[int, Leaf] = {}
    counts: Counter[str] = Counter()
    for name, tree in canonical.slots.items():
        maker = MAKERS.get(name.rpartition("/")[2])
        for path, leaf in tree.items() if maker else ():
            if leaf is None:  # left out by a mask
                continue
            # Leaves are passed on as they are, so that a slot's leaf is found in the tree by what it is.
            made[id(leaf)] = _made(maker, name, path, leaf, canonical.weights[path])
            counts[name] += 1
    if not made:
        raise CheckpointError(
            f"a {canonical.dialect} checkpoint with the slots {sorted(canonical.slots)}, expected mu or nu: "
            "give a train state of adamw, adam_pax, muon or a wrapper around one of them"
        )
    leaves = {path: made.get(id(leaf), leaf) for path, leaf in flat.leaves.items()}
    return Flat(leaves=leaves, lists=flat.lists), dict(counts), canonical.dialect


def _made(maker: Callable[[np.ndarray], np.ndarray] | None, name: str, path: Path, leaf: Leaf, weight: Leaf) -> Leaf:
    if maker is None or not isinstance(leaf, np.ndarray) or not isinstance(weight, np.ndarray):
        raise CheckpointError(
            f"slot {name}, {show(path)}: {dtype_of(leaf)}, expected an array: take another checkpoint"
        )
    if leaf.shape != weight.shape:
        raise CheckpointError(
            f"slot {name}, {show(path)}: shape {shape_of(leaf)}, its weight has {shape_of(weight)}: a factored "
            "optimizer has no slot of the weight's shape; take a checkpoint of one that has"
        )
    for kind, array in (("slot", leaf), ("weight", weight)):
        if not is_floating(array.dtype):
            raise CheckpointError(f"slot {name}, {show(path)}: the {kind} is {array.dtype}, expected floating point")
    out = np.empty(leaf.size, leaf.dtype)
    flat = weight.reshape(-1)
    for start in range(0, flat.size, BLOCK):
        angle = flat[start : start + BLOCK].astype(np.float32) * FACTOR
        out[start : start + BLOCK] = maker(angle.astype(np.float64)).astype(leaf.dtype)
    return out.reshape(leaf.shape)


def entropy_text(report: EntropyReport) -> str:
    """The report for a terminal."""
    slots = ", ".join(f"{name} ({count} leaves)" for name, count in report.slots.items())
    return "\n".join(
        [
            f"wrote     {report.target}",
            f"from      {report.source} ({report.dialect})",
            f"made      {slots}",
            f"size      {report.leaves} leaves, {report.bytes} bytes",
            "note      mu = cos(1000 p), nu = sin(1000 p), 1000 p in float32; nu may be negative: never train from it",
        ]
    )
