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
from functools import partial
from pathlib import Path as FilePath

import numpy as np

from impl.checkpoint.conversion.plan import make_plan
from impl.checkpoint.derived.writing import Place, refuse_inside, room_for, size_of, write_planned
from impl.checkpoint.dialects.canonical import canonicalise
from impl.checkpoint.dialects.dialect import Dialect
from impl.checkpoint.dialects.layers import is_array
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.dtypes import dtype_named, is_floating
from impl.checkpoint.leaves.leaf import Leaf, LeafSpec, Path, dtype_of, key_impl_of, shape_of, show
from impl.checkpoint.leaves.origin import stored_names
from impl.checkpoint.leaves.tree import Flat
from impl.checkpoint.progress import Watch, untold
from impl.checkpoint.storage.location import locate
from impl.checkpoint.storage.source import Source, open_source
from impl.checkpoint.storage.values import Reader, Values

__all__ = ["EntropyReport", "Moment", "entropy", "entropy_text", "moment_of", "moments"]

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


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A leaf of a slot that is to be made of its weight by `maker`."""

    maker: Callable[[np.ndarray], np.ndarray]
    weight: Leaf


def entropy(source: FilePath, target: FilePath, watch: Watch = untold) -> EntropyReport:
    """Writes the checkpoint at `source` to `target` with new mu and nu; every other leaf as it is, in linked files.

    A part of one leaf is in memory at a time. watch: told of bytes as they go. Raises CheckpointError for a checkpoint
    that has neither, and for a target that exists.
    """
    location = locate(source)
    refuse_inside(location.source, target)
    stored = open_source(location.items)
    made, slots, dialect = moments(stored.flat)
    flat = stored.flat
    plan = make_plan(stored, flat, {path: partial(_opened, stored, flat.leaves[path], made[path]) for path in made})
    noted = {"noted": location.custom_metadata, "step": location.step}
    place = Place(target=FilePath(target), relative=location.relative, mode="auto", **noted)
    write_planned(stored, plan, place, watch)
    leaves = len(flat.leaves)
    return EntropyReport(
        source=str(source), target=str(target), dialect=dialect, slots=slots, leaves=leaves, bytes=size_of(flat)
    )


def moments(flat: Flat) -> tuple[dict[Path, Moment], Mapping[str, int], Dialect]:
    """Every mu and nu of the tree by its path there, how many leaves each slot has, and the dialect.

    Raises CheckpointError where there is no mu or nu, and for one that does not fit its weight.
    """
    canonical = canonicalise(flat)
    # Leaves are passed on as they are, so that a slot's leaf is found in the tree by what it is.
    paths = {id(leaf): path for path, leaf in flat.leaves.items()}
    made: dict[Path, Moment] = {}
    counts: Counter[str] = Counter()
    for name, tree in canonical.slots.items():
        maker = MAKERS.get(name.rpartition("/")[2])
        for path, leaf in tree.items() if maker else ():
            if leaf is None or maker is None:  # left out by a mask
                continue
            _check(name, path, leaf, canonical.weights[path])
            made[paths[id(leaf)]] = Moment(maker=maker, weight=canonical.weights[path])
            counts[name] += 1
    if not made:
        raise CheckpointError(
            f"a {canonical.dialect} checkpoint with the slots {sorted(canonical.slots)}, expected mu or nu: "
            "give a train state of adamw, adam_pax, muon or a wrapper around one of them"
        )
    return made, dict(counts), canonical.dialect


def _check(name: str, path: Path, leaf: Leaf, weight: Leaf) -> None:
    """Raises CheckpointError for a slot's leaf that cannot be made of its weight."""
    if not is_array(leaf) or not is_array(weight) or key_impl_of(leaf) or key_impl_of(weight):
        raise CheckpointError(
            f"slot {name}, {show(path)}: {dtype_of(leaf)}, expected an array: take another checkpoint"
        )
    if shape_of(leaf) != shape_of(weight):
        raise CheckpointError(
            f"slot {name}, {show(path)}: shape {shape_of(leaf)}, its weight has {shape_of(weight)}: a factored "
            "optimizer has no slot of the weight's shape; take a checkpoint of one that has"
        )
    for kind, array in (("slot", leaf), ("weight", weight)):
        if not is_floating(dtype_named(dtype_of(array))):
            raise CheckpointError(
                f"slot {name}, {show(path)}: the {kind} is {dtype_of(array)}, expected floating point"
            )


def _opened(stored: Source, leaf: Leaf, moment: Moment) -> Values:
    """The values of the moment whose slot has `leaf`, read from its weight's as they are asked for."""
    weight = moment.weight
    assert isinstance(weight, LeafSpec)
    assert weight.origin is not None
    origin, dtype = weight.origin, dtype_named(dtype_of(leaf))
    reader = Reader(stored.items, room_for(stored, stored_names(origin)))
    return lambda part: moment_of(moment.maker, reader.part(stored, origin, part), dtype)


def moment_of(maker: Callable[[np.ndarray], np.ndarray], weight: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """maker(1000 weight) at `dtype`, one after the other so that little is in float64 at a time."""
    out = np.empty(weight.size, dtype)
    flat = weight.reshape(-1)
    for start in range(0, flat.size, BLOCK):
        angle = flat[start : start + BLOCK].astype(np.float32) * FACTOR
        out[start : start + BLOCK] = maker(angle.astype(np.float64)).astype(dtype)
    return out.reshape(weight.shape)


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
