"""Holding a checkpoint against its manifest: every leaf and every file that is not as it was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Literal

from impl.checkpoint.checksums.digests import chunk_digest, encoding_digest, file_digests, place_name, value_digests
from impl.checkpoint.checksums.manifest import FILE, LeafDigests, Manifest, read_manifest
from impl.checkpoint.checksums.sealing import plain_digests
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.leaf import Path, dtype_of, shape_of, show
from impl.checkpoint.progress import Watch
from impl.checkpoint.storage.blocks import Blocks, Bytes
from impl.checkpoint.storage.index import Extent
from impl.checkpoint.storage.location import locate
from impl.checkpoint.storage.sides import Side, opened_as_noted

__all__ = ["ChecksumReport", "Finding", "check"]

Kind = Literal["missing", "extra", "shape", "dtype", "values", "encoding", "unreadable", "size", "bytes"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is not as the manifest says. what: "leaf" or "file"; name: its path in the tree, or on disk.

    values: the decoded values differ. encoding: bytes on disk differ, and what they decode to does not. unreadable:
    bytes are gone or cannot be decoded. size, bytes: of a file, the latter beside the chunks in it.
    detail: which chunk of which file, or both values.
    """

    what: Literal["leaf", "file"]
    name: str
    kind: Kind
    detail: str


@dataclass(frozen=True, kw_only=True)
class ChecksumReport:
    """A checkpoint held against its manifest. leaves, files: how many were checked; bytes: encoded bytes read.

    decoded: leaves that were decoded, because their encoded bytes differ. made_of: those that a
    conversion traced to its source.
    """

    checkpoint: str
    manifest: str
    leaves: int
    files: int
    bytes: int
    decoded: int
    made_of: int
    findings: tuple[Finding, ...]

    @property
    def outcome(self) -> Literal["AS RECORDED", "DIFFERENT"]:
        """AS RECORDED when there is no finding."""
        return "DIFFERENT" if self.findings else "AS RECORDED"


def check(source: FilePath, watch: Watch) -> ChecksumReport:
    """Every leaf and file of the checkpoint at `source` that is not as its manifest says.

    Encoded bytes are read; a leaf is decoded where they differ, to say whether its values do.
    watch: told of bytes read and of all that are to be. Raises CheckpointError where manifest, tree or index cannot
    be read.
    """
    items = locate(source).items
    manifest = read_manifest(items)
    side = opened_as_noted(source)
    done, total = 0, sum(side.encoded_bytes(path) for path in side.arrays)

    def told(count: int) -> None:
        nonlocal done
        done += count
        watch(count, total)

    with Blocks(told) as blocks:
        checker = _Checker(side, manifest, blocks)
        findings = [*checker.leaves(), *checker.files()]
    return ChecksumReport(
        checkpoint=str(source),
        manifest=str(items / FILE),
        leaves=len(manifest.leaves),
        files=len(manifest.files),
        bytes=done,
        decoded=checker.decoded,
        made_of=sum(bool(leaf.made_of) for leaf in manifest.leaves.values()),
        findings=tuple(findings),
    )


class _Checker:
    def __init__(self, side: Side, manifest: Manifest, blocks: Blocks) -> None:
        self._side = side
        self._manifest = manifest
        self._blocks = blocks
        self.decoded = 0

    def leaves(self) -> Iterator[Finding]:
        here = {show(path): path for path in self._side.flat.leaves}
        for name, wanted in self._manifest.leaves.items():
            if name not in here:
                words = f"{wanted.dtype} {wanted.shape} in the manifest, absent in the checkpoint"
                yield Finding(what="leaf", name=name, kind="missing", detail=words)
                continue
            try:
                kind, detail = self._leaf(wanted, here[name])
            except CheckpointError as problem:
                kind, detail = "unreadable", str(problem)
            if kind:
                yield Finding(what="leaf", name=name, kind=kind, detail=detail)
        for name in here:
            if name not in self._manifest.leaves:
                leaf = self._side.flat.leaves[here[name]]
                words = f"{dtype_of(leaf)} {shape_of(leaf)} in the checkpoint, absent in the manifest"
                yield Finding(what="leaf", name=name, kind="extra", detail=words)

    def _leaf(self, wanted: LeafDigests, path: Path) -> tuple[Kind | Literal[""], str]:
        leaf = self._side.flat.leaves[path]
        if shape_of(leaf) != wanted.shape:
            return "shape", f"{wanted.shape} in the manifest, {shape_of(leaf)} in the checkpoint"
        if dtype_of(leaf) != wanted.dtype:
            return "dtype", f"{wanted.dtype} in the manifest, {dtype_of(leaf)} in the checkpoint"
        if path not in self._side.arrays:
            same = plain_digests(self._side, leaf, wanted).values == wanted.values
            return ("", "") if same else ("values", "another text than in the manifest")
        apart = self._encoded(wanted, path)
        if not apart:
            return "", ""
        return ("encoding" if self._same_values(wanted, path) else "values"), apart

    def _encoded(self, wanted: LeafDigests, path: Path) -> str:
        """Which encoded bytes are not those of the manifest, in words."""
        stored, folder = self._side.array(path), self._side.items
        apart = [] if encoding_digest(stored) == wanted.encoding else ["the array's metadata"]
        if {place_name(place) for place in stored.chunks} != set(wanted.chunks):
            return ", ".join([*apart, f"{len(stored.chunks)} chunks, {len(wanted.chunks)} in the manifest"])
        for place, value in stored.chunks.items():
            found = chunk_digest(Bytes(leaf=show(path), folder=folder, value=value), self._blocks)
            if found != wanted.chunks[place_name(place)]:
                at = f"{value.file} at {value.offset}, {value.length} bytes" if isinstance(value, Extent) else "index"
                apart.append(f"chunk {place_name(place)} ({at})")
        return ", ".join(apart)

    def _same_values(self, wanted: LeafDigests, path: Path) -> bool:
        self.decoded += 1
        axes = [int(axis) for axis in wanted.layers]
        values, layers = value_digests(self._side, self._side.whole(path), axes)
        known = wanted.values or wanted.layers
        return bool(known) and values == (wanted.values or values) and layers == dict(wanted.layers)

    def files(self) -> Iterator[Finding]:
        """Files that lack, are more, or differ outside the chunks of leaves."""
        found = file_digests(self._side.items, self._side.arrays)
        for name, wanted in self._manifest.files.items():
            here = found.get(name)
            if here is None:
                yield Finding(what="file", name=name, kind="missing", detail=f"{wanted.bytes} bytes in the manifest")
            elif here.bytes != wanted.bytes:
                words = f"{wanted.bytes} bytes in the manifest, {here.bytes} on disk"
                yield Finding(what="file", name=name, kind="size", detail=words)
            elif here.rest != wanted.rest:
                words = "bytes that are no chunk of a leaf differ"
                yield Finding(what="file", name=name, kind="bytes", detail=words)
        for name in sorted(set(found) - set(self._manifest.files)):
            yield Finding(what="file", name=name, kind="extra", detail=f"{found[name].bytes} bytes on disk")
