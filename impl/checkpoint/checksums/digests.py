"""Digests of leaves: of decoded values, independent of chunks and layout, and of encoded bytes, fast to check."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from impl.checkpoint.checksums.manifest import FILE, FileDigest, digest_of
from impl.checkpoint.comparison.decoding import Place, part_of, pieces
from impl.checkpoint.dialects.canonical import REFERENCE, Canonical, canonicalise
from impl.checkpoint.dialects.layers import Group
from impl.checkpoint.dialects.restack import unstack
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.leaf import LeafSpec, Leaves, Path
from impl.checkpoint.leaves.placed import Placed, placing
from impl.checkpoint.storage.blocks import BLOCK, Blocks, Bytes
from impl.checkpoint.storage.index import Extent, StoredArray
from impl.checkpoint.storage.sides import Side

__all__ = ["chunk_digest", "encoding_digest", "file_digests", "layer_axes", "place_name", "value_digests"]


def place_name(place: Place) -> str:
    """A place in the grid of chunks as text: "0.3"; "0" for the one chunk of a scalar."""
    return ".".join(map(str, place)) or "0"


def encoding_digest(stored: StoredArray) -> str:
    """Digest of all that says how a leaf's chunks are decoded: the metadata of its array."""
    return digest_of(json.dumps([stored.form, stored.metadata], sort_keys=True).encode())


def chunk_digest(wanted: Bytes, blocks: Blocks) -> str:
    """Digest of encoded bytes. Raises CheckpointError, naming leaf and file, where they are not there."""
    hasher = _hasher()
    for block in blocks.each(wanted):
        hasher.update(block)
    return str(hasher.hexdigest())


def value_digests(side: Side, leaf: Placed, axes: Iterable[int]) -> tuple[str, dict[str, tuple[str, ...]]]:
    """Digest of a stored leaf's decoded bytes, in C order, and by axis those of its layers along each of `axes`.

    The leaf is decoded in slabs of whole chunks along its first axis. Raises CheckpointError where it cannot be.
    """
    whole = _hasher()
    layers = {axis: [_hasher() for _ in range(leaf.shape[axis])] for axis in axes}
    for box in pieces(leaf.shape, (*side.arrays[leaf.source].chunk_shape[:1], *leaf.shape[1:])):
        slab = part_of(side, leaf, box)
        whole.update(_raw(slab))
        for axis, hashers in layers.items():
            first = box[0][0] if axis == 0 else 0
            for index in range(slab.shape[axis]):
                hashers[first + index].update(_raw(np.take(slab, index, axis)))
    side.kept.clear()
    rows = {str(axis): tuple(str(hasher.hexdigest()) for hasher in hashers) for axis, hashers in layers.items()}
    return str(whole.hexdigest()), rows


def _raw(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)


def layer_axes(side: Side) -> dict[Path, tuple[int, ...]]:
    """Stored leaves in which layers are stacked, and at which axes they may lie. {} for a tree of no known dialect."""
    try:
        canonical = canonicalise(side.flat)
    except CheckpointError:
        return {}
    found: dict[Path, set[int]] = {}
    for group in canonical.groups:
        for axis, depth in group.candidates if group.form == "stacked" else ():
            for trees, at in _trees(canonical, axis):
                for leaf in _layers(trees, group, at, depth):
                    found.setdefault(leaf.source, set()).add(leaf.fixed[0][0])
    return {path: tuple(sorted(axes)) for path, axes in found.items()}


def _trees(canonical: Canonical, axis: int) -> Iterator[tuple[Leaves, int]]:
    """Every tree of the shape of the model, and the axis of its layers."""
    yield canonical.weights, axis
    yield from ((tree, axis) for tree in canonical.slots.values())
    yield canonical.aux, 0
    for name, tree in canonical.collections.items():
        yield tree, axis if name == REFERENCE else 0


def _layers(leaves: Leaves, group: Group, axis: int, depth: int) -> list[Placed]:
    try:
        apart = unstack(leaves, replace(group, axis=axis, depth=depth), axis)
    except CheckpointError:
        return []
    moved = [placing(leaf) for leaf in apart.values() if isinstance(leaf, LeafSpec)]
    return [leaf for leaf in moved if leaf.fixed]


def file_digests(items: FilePath, arrays: Mapping[Path, StoredArray]) -> dict[str, FileDigest]:
    """Every file below `items` but the manifest: its size, and the digest of what in it is no chunk of `arrays`."""
    chunks: dict[str, list[tuple[int, int]]] = {}
    for stored in arrays.values():
        for value in stored.chunks.values():
            if isinstance(value, Extent):
                chunks.setdefault(value.file, []).append((value.offset, value.offset + value.length))
    found = {}
    for path in sorted(items.rglob("*")):
        name = path.relative_to(items).as_posix()
        if path.is_file() and not name.startswith(FILE):
            try:
                found[name] = FileDigest(bytes=path.stat().st_size, rest=_rest(path, sorted(chunks.get(name, []))))
            except OSError as problem:
                raise CheckpointError(f"{path}: cannot be read ({problem.strerror}): restore the file") from problem
    return found


def _rest(path: FilePath, chunks: list[tuple[int, int]]) -> str:
    hasher, at = _hasher(), 0
    with path.open("rb") as stream:
        for start, end in [*chunks, (path.stat().st_size, 0)]:
            stream.seek(at)
            while at < start and (part := stream.read(min(BLOCK, start - at))):
                hasher.update(part)
                at += len(part)
            at = max(at, end)
    return str(hasher.hexdigest())


def _hasher() -> Any:
    import xxhash

    return xxhash.xxh3_128()
