"""The manifest of digests that `harness checksum` writes beside a checkpoint's arrays, as records and as a file.

It lies in the folder that Orbax reads ("items"), where every restore passes over it and a copy of the folder takes it
along. The digests are XXH3 of 128 bits: they find what storage, memory and transport do to bytes, at the speed of
reading. They stop nobody who wants to deceive, since who can write the arrays can write the manifest.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from impl.checkpoint.errors import CheckpointError

__all__ = [
    "ALGORITHM",
    "FILE",
    "FileDigest",
    "LeafDigests",
    "Manifest",
    "Trace",
    "body_digest",
    "digest_of",
    "read_manifest",
    "write_manifest",
]

FILE = "harness_checksums.json"
FORM = "harness checksums"
VERSION = 1
ALGORITHM = "xxh3_128"


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What a leaf was made of by a conversion: `leaf` of the source or its layer `index` at `axis` (-1: the whole of
    it), and the digest of its values in the source's manifest."""

    leaf: str
    axis: int = -1
    index: int = -1
    digest: str = ""


@dataclass(frozen=True, kw_only=True)
class LeafDigests:
    """One leaf. values: digest of its decoded bytes in C order, whatever its chunks; "" where only layers are known.

    layers: by axis, the same of each layer, for a leaf in which layers are stacked (several axes where the tree does
    not say which). encoding: digest of how its chunks are encoded, chunks: of the bytes of each, by place in the grid
    ("0.3"). made_of: where a conversion took it from.
    """

    shape: tuple[int, ...]
    dtype: str
    values: str = ""
    layers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    encoding: str = ""
    chunks: Mapping[str, str] = field(default_factory=dict)
    made_of: tuple[Trace, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FileDigest:
    """A file below the folder: its bytes, and the digest of those of them that are no chunk of a leaf."""

    bytes: int
    rest: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Digests of a checkpoint. leaves: by path in the tree; files: by path below the folder. source: digest of the
    manifest that a conversion carried over, "" where there was none."""

    leaves: Mapping[str, LeafDigests]
    files: Mapping[str, FileDigest]
    source: str = ""


def digest_of(data: bytes) -> str:
    """The digest of some bytes, in hexadecimal."""
    import xxhash

    return str(xxhash.xxh3_128_hexdigest(data))


def body_digest(manifest: Manifest) -> str:
    """The digest of a manifest itself."""
    return digest_of(_canonical(dataclasses.asdict(manifest)))


def _canonical(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def write_manifest(items: FilePath, manifest: Manifest) -> FilePath:
    """Writes the manifest of the checkpoint whose arrays lie at `items`; aside first, then renamed. Its path.

    Raises CheckpointError where there is one already, since a new one would bless whatever has happened since, and
    where the folder cannot be written.
    """
    target, aside = items / FILE, items / f"{FILE}.{os.getpid()}"
    if os.path.lexists(target):
        raise CheckpointError(
            f"{target}: there is a manifest already, and a new one would hide what has changed since: "
            "compare with it (--check), or remove it first"
        )
    body = dataclasses.asdict(manifest)
    head = {"form": FORM, "version": VERSION, "algorithm": ALGORITHM, "digest": digest_of(_canonical(body))}
    try:
        with aside.open("w", encoding="utf-8") as stream:
            json.dump(head | body, stream, indent=1)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(aside, target)
    except OSError as problem:
        aside.unlink(missing_ok=True)
        raise CheckpointError(
            f"{target}: cannot be written ({problem.strerror}): give a folder that can be"
        ) from problem
    return target


def read_manifest(items: FilePath) -> Manifest:
    """The manifest at `items`. Raises CheckpointError for none, a damaged one, and one of another version."""
    path = items / FILE
    try:
        read = json.loads(path.read_bytes())
    except FileNotFoundError as problem:
        raise CheckpointError(f"{path}: there is no manifest: write one with harness checksum") from problem
    except (OSError, ValueError, RecursionError) as problem:
        raise _damaged(path, f"it is not readable as JSON: {str(problem)[:120]}") from problem
    if not isinstance(read, dict) or read.get("form") != FORM:
        raise _damaged(path, f"it does not say that it is {FORM!r}")
    if (read.get("version"), read.get("algorithm")) != (VERSION, ALGORITHM):
        raise CheckpointError(
            f"{path}: version {read.get('version')!r} with {read.get('algorithm')!r}, expected {VERSION} with "
            f"{ALGORITHM!r}: read it with the harness that wrote it, or remove it and write a new one"
        )
    body = {name: value for name, value in read.items() if name not in ("form", "version", "algorithm", "digest")}
    if digest_of(_canonical(body)) != read.get("digest"):
        raise _damaged(path, "its digest is not that of its content")
    try:
        return Manifest(
            leaves={name: _leaf(leaf) for name, leaf in body["leaves"].items()},
            files={name: FileDigest(**file) for name, file in body["files"].items()},
            source=str(body["source"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise _damaged(path, f"it lacks {problem}") from problem


def _leaf(read: Mapping[str, Any]) -> LeafDigests:
    rows = {"shape": tuple(read["shape"]), "made_of": tuple(Trace(**trace) for trace in read["made_of"])}
    layers = {axis: tuple(digests) for axis, digests in read["layers"].items()}
    return LeafDigests(**{**read, **rows, "layers": layers})


def _damaged(path: FilePath, reason: str) -> CheckpointError:
    return CheckpointError(f"{path}: the manifest is damaged ({reason}): restore it, or remove it and write a new one")
