"""Making the manifest of a checkpoint: what is known already is taken over, the rest is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path as FilePath

from impl.checkpoint.checksums.digests import (
    chunk_digest,
    encoding_digest,
    file_digests,
    layer_axes,
    place_name,
    value_digests,
)
from impl.checkpoint.checksums.manifest import LeafDigests, Manifest, digest_of
from impl.checkpoint.leaves.leaf import Leaf, LeafSpec, Path, dtype_of, shape_of, show
from impl.checkpoint.leaves.placed import placing
from impl.checkpoint.progress import Watch
from impl.checkpoint.storage.blocks import Blocks, Bytes
from impl.checkpoint.storage.sides import Side, opened

__all__ = ["NOTHING", "plain_digests", "sealed", "sealed_side"]

NOTHING = Manifest(leaves={}, files={})
"""What is known of a checkpoint of which nothing is known."""


def sealed(source: FilePath, known: Manifest, watch: Watch) -> Manifest:
    """The manifest of the checkpoint at `source`. Nothing is written.

    known: digests that a conversion carried over (`lineage.carried`), or NOTHING. A leaf with digests
    of its values there is not decoded, one with digests of all its chunks not read. watch: called with bytes read and
    bytes to read. Raises CheckpointError for what cannot be read.
    """
    return sealed_side(opened(source), known, watch)


def sealed_side(side: Side, known: Manifest, watch: Watch) -> Manifest:
    """The same of a checkpoint that is open already."""
    axes = layer_axes(side)
    total = sum(side.encoded_bytes(path) for path in side.arrays)
    leaves = {}
    with Blocks(lambda count: watch(count, total)) as blocks:
        for path, leaf in side.flat.leaves.items():
            told_before = known.leaves.get(show(path), LeafDigests(shape=shape_of(leaf), dtype=dtype_of(leaf)))
            found = plain_digests(side, leaf, told_before)
            if path in side.arrays:
                found = _array_digests(side, path, found, axes.get(path, ()), blocks)
            leaves[show(path)] = found
    files = file_digests(side.items, side.arrays)
    return Manifest(leaves=leaves, files=files, source=known.source)


def plain_digests(side: Side, leaf: Leaf, known: LeafDigests) -> LeafDigests:
    """`known` with shape and dtype as the metadata has them, and the digest of a text."""
    found = replace(known, shape=shape_of(leaf), dtype=dtype_of(leaf))
    if isinstance(leaf, LeafSpec) and leaf.dtype == "str":
        return replace(found, values=digest_of(side.text(placing(leaf).source).encode()))
    return found


def _array_digests(side: Side, path: Path, known: LeafDigests, axes: tuple[int, ...], blocks: Blocks) -> LeafDigests:
    stored = side.array(path)
    names = {place_name(place): value for place, value in stored.chunks.items()}
    chunks: Mapping[str, str] = known.chunks
    if set(chunks) != set(names):
        chunks = {
            place: chunk_digest(Bytes(leaf=show(path), folder=side.items, value=value), blocks)
            for place, value in sorted(names.items())
        }
    found = replace(known, encoding=encoding_digest(stored), chunks=chunks)
    if found.values or found.layers:
        return found
    values, layers = value_digests(side, side.whole(path), axes)
    return replace(found, values=values, layers=layers)
