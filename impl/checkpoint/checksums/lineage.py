"""Carrying a manifest over a conversion, so that each leaf of the output is traceable to leaves of the input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from impl.checkpoint.checksums.manifest import LeafDigests, Manifest, Trace, body_digest
from impl.checkpoint.errors import CheckpointError

__all__ = ["Made", "Part", "carried", "untraced"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A leaf of the source, or (axis from 0 up) its layer `index` along `axis`, by its path in the tree ("a/b")."""

    leaf: str
    axis: int = -1
    index: int = -1


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a leaf of the target is made of: one origin (axis -1), or origins stacked as layers along `axis`.

    shape, dtype: of the target's leaf. chunks: "same" where its chunks are the source's encoded bytes, re-indexed (a
    stacked chunk then holds one layer), "new" where they were written anew.
    """

    shape: tuple[int, ...]
    dtype: str
    origins: tuple[Part, ...]
    axis: int = -1
    chunks: Literal["same", "new"] = "new"


def carried(source: Manifest, plan: Mapping[str, Made]) -> Manifest:
    """What the source's manifest says of the target's leaves, without reading either.

    plan: path of a leaf in the target's tree -> what it is made of, its bytes kept, in another place or order of
    layers; another dtype is right only where the bytes are the same (a step's). What is not in the plan is left to be
    read.
    Hand the result to `sealing.sealed(target, known, watch)`, which reads what is missing (encoded
    bytes of chunks that are new; values of what no digest is known of; files), and write what that returns with
    `manifest.write_manifest`. What is carried is what the source's manifest promises of the source:
    had its bytes changed since, or were the conversion wrong, `check` would find the target's bytes to be others.

    Raises CheckpointError for an origin that the source's manifest does not have.
    """
    leaves = {}
    for name, made in plan.items():
        whole = made.origins[0] if made.axis < 0 and len(made.origins) == 1 else None
        parts = [_part(source, name, origin) for origin in made.origins]
        traces = tuple(
            Trace(leaf=origin.leaf, axis=origin.axis, index=origin.index, digest=part.values)
            for origin, part in zip(made.origins, parts, strict=True)
        )
        known = parts[0] if whole else _stacked(parts, made.axis)
        chunks = known.chunks if made.chunks == "same" else {}
        known = replace(known, shape=made.shape, dtype=made.dtype, encoding="", chunks=chunks, made_of=traces)
        leaves[name] = known
    return Manifest(leaves=leaves, files={}, source=body_digest(source))


def _part(source: Manifest, name: str, origin: Part) -> LeafDigests:
    """Digests of an origin by itself: those of a leaf, or of one layer of it."""
    leaf = source.leaves.get(origin.leaf)
    if leaf is None:
        raise CheckpointError(
            f"{name}: made of {origin.leaf}, which the source's manifest lacks: check the source, then seal it again"
        )
    if origin.axis < 0:
        return leaf
    layers = leaf.layers.get(str(origin.axis), ())
    chunks = {}
    for place, digest in leaf.chunks.items():
        parts = place.split(".")
        if len(parts) == len(leaf.shape) and parts.pop(origin.axis) == str(origin.index):
            chunks[".".join(parts) or "0"] = digest
    return LeafDigests(
        shape=leaf.shape[: origin.axis] + leaf.shape[origin.axis + 1 :],
        dtype=leaf.dtype,
        values=layers[origin.index] if origin.index < len(layers) else "",
        chunks=chunks,
    )


def _stacked(parts: list[LeafDigests], axis: int) -> LeafDigests:
    """Digests of the stack of some leaves of one shape: its layers are known, its values as one are not."""
    digests = tuple(part.values for part in parts)
    chunks = {}
    for index, part in enumerate(parts):
        for place, digest in part.chunks.items():
            places = place.split(".") if part.shape else []
            chunks[".".join([*places[:axis], str(index), *places[axis:]])] = digest
    layers = {str(axis): digests} if all(digests) else {}
    return replace(parts[0], values="", layers=layers, chunks=chunks)


def untraced(source: Manifest, target: Manifest) -> tuple[str, ...]:
    """Leaves of the target, in order, whose digests are not those of what they were made of in the source.

    A leaf that names no origin is among them, unless it holds no values at all.
    """
    return tuple(
        name
        for name, leaf in target.leaves.items()
        if (leaf.values or leaf.layers or leaf.made_of) and not _traced(source, name, leaf)
    )


def _traced(source: Manifest, name: str, leaf: LeafDigests) -> bool:
    if not leaf.made_of or any(trace.leaf not in source.leaves for trace in leaf.made_of):
        return False
    origins = [Part(leaf=trace.leaf, axis=trace.axis, index=trace.index) for trace in leaf.made_of]
    parts = [_part(source, name, origin) for origin in origins]
    digests = tuple(part.values for part in parts)
    if all(digests) and (digests in leaf.layers.values() or digests == (leaf.values,)):
        return True
    # A stack that was never read as one is known by its layers alone.
    alike = [axis for axis, layers in leaf.layers.items() if parts[0].layers.get(axis) == layers]
    return len(parts) == 1 and bool(alike)
