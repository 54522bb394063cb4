"""Writes the index of an OCDBT store: keys, and the files, offsets and lengths of bytes that lie there already.

The format is the one that TensorStore documents under "ocdbt Key-Value Store driver", manifest version 0 of the kind
"single". The index refers to data files below the store's folder by their relative paths, whoever wrote them; that is
what lets a leaf change its name without its bytes being touched. Nodes are written uncompressed; their checksums and
the manifest's are verified by TensorStore whenever they are read.
"""

from __future__ import annotations

import itertools
import os
import struct
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from impl.checkpoint.storage.crc32c import crc32c
from impl.checkpoint.storage.index import MANIFEST, Extent, Inline, Value

__all__ = ["MAX_INLINE", "write_index"]

MAX_INLINE = 1024  # bytes; what Orbax chooses, for later writers of the same store
NODE_ENTRIES = 100_000
_MAX_NODE_BYTES = 100_000_000
_MANIFEST_MAGIC, _NODE_MAGIC = 0x0CDB3A2A, 0x0CDB20DE
_ARITY_LOG2 = 4
_LONGEST = 65535  # bytes of a key or a path


@dataclass(frozen=True, kw_only=True)
class _Node:
    """One written node: its first key, where it lies, and what lies below it."""

    first: bytes
    offset: int
    length: int
    keys: int
    tree: int
    indirect: int


def write_index(folder: Path, entries: Mapping[str, Value]) -> list[Path]:
    """Writes manifest and nodes of a store at `folder` that holds `entries`, and returns the files.

    Raises ValueError for a key or path that the format has no room for.
    """
    ordered = sorted((key.encode(), value) for key, value in entries.items())
    if not ordered:
        raise ValueError("an index without keys")
    file = f"d/{uuid.uuid4().hex}"
    path = Path(folder) / file
    path.parent.mkdir(exist_ok=True)
    nodes: list[_Node] = []
    with path.open("xb") as out:
        for start in range(0, len(ordered), NODE_ENTRIES):
            some = ordered[start : start + NODE_ENTRIES]
            indirect = sum(value.length for _, value in some if isinstance(value, Extent))
            offset, length = out.tell(), _write_sealed(out, _NODE_MAGIC, _leaf(some))
            place = {"offset": offset, "length": length, "tree": length}
            nodes.append(_Node(first=some[0][0], keys=len(some), indirect=indirect, **place))
        root, height = nodes[0], 0
        if len(nodes) > 1:
            offset, height = out.tell(), 1
            length = _write_sealed(out, _NODE_MAGIC, _interior(nodes, file))
            sums = {name: sum(getattr(child, name) for child in nodes) for name in ("keys", "tree", "indirect")}
            root = _Node(first=b"", offset=offset, length=length, **{**sums, "tree": sums["tree"] + length})
    manifest = Path(folder) / MANIFEST
    with manifest.open("xb") as out:
        _write_sealed(out, _MANIFEST_MAGIC, _manifest(root, height, file))
    return [path, manifest]


def _write_sealed(out: BinaryIO, magic: int, body: bytes) -> int:
    """Writes `body` with the header (magic, length, version 0, no compression) and the checksum; how many bytes."""
    length = 4 + 8 + 2 + len(body) + 4
    head = struct.pack(">I", magic) + struct.pack("<Q", length) + b"\0\0"
    for part in (head, body, struct.pack("<I", crc32c(head, body))):
        out.write(part)
    return length


def _manifest(root: _Node, height: int, file: str) -> bytes:
    config = uuid.uuid4().bytes + _numbers([0, MAX_INLINE, _MAX_NODE_BYTES]) + bytes([_ARITY_LOG2])
    config += _numbers([1]) + struct.pack("<i", 0)  # later writers compress their nodes with zstd
    version = _numbers([1, 1]) + bytes([height])  # one version, generation 1
    version += _numbers([0, root.offset, root.length, root.keys, root.tree, root.indirect])
    return config + _files([file]) + version + struct.pack("<Q", time.time_ns()) + _numbers([0])


def _leaf(entries: Sequence[tuple[bytes, Value]]) -> bytes:
    extents = [value for _, value in entries if isinstance(value, Extent)]
    names = sorted({value.file for value in extents})
    at = {name: place for place, name in enumerate(names)}
    values = [value for _, value in entries]
    return b"".join(
        [
            b"\0",
            _files(names),
            _numbers([len(entries)]),
            *_keys([key for key, _ in entries], ()),
            _numbers(value.length if isinstance(value, Extent) else len(value.data) for value in values),
            bytes(isinstance(value, Extent) for value in values),
            _numbers(at[value.file] for value in extents),
            _numbers(value.offset for value in extents),
            *(value.data for value in values if isinstance(value, Inline)),
        ]
    )


def _interior(nodes: Sequence[_Node], file: str) -> bytes:
    columns = [[0] * len(nodes), *([getattr(node, name) for node in nodes] for name in ("offset", "length"))]
    columns += [[getattr(node, name) for node in nodes] for name in ("keys", "tree", "indirect")]
    keys = _keys([node.first for node in nodes], [0] * len(nodes))
    return b"".join([b"\1", _files([file]), _numbers([len(nodes)]), *keys, *map(_numbers, columns)])


def _keys(keys: Sequence[bytes], subtree: Iterable[int]) -> list[bytes]:
    """Sorted keys: lengths of shared prefixes and of suffixes, `subtree` (what a child's keys share), suffixes."""
    if long := next((key for key in keys if len(key) > _LONGEST), None):
        raise ValueError(f"the key {long[:40].decode(errors='replace')}... has {len(long)} bytes, at most {_LONGEST}")
    shared = [0, *(_common(one, two) for one, two in itertools.pairwise(keys))]
    suffixes = [key[prefix:] for key, prefix in zip(keys, shared, strict=True)]
    return [_numbers(shared[1:]), _numbers(map(len, suffixes)), _numbers(subtree), *suffixes]


def _files(names: Sequence[str]) -> bytes:
    """The table of data files, paths relative to the store, sorted."""
    paths = [os.fsencode(name) for name in names]
    if not paths:
        return _numbers([0])
    shared = [0, *(_common(one, two) for one, two in itertools.pairwise(paths))]
    suffixes = [path[prefix:] for path, prefix in zip(paths, shared, strict=True)]
    bases = [0] * len(paths)
    return b"".join([_numbers([len(paths), *shared[1:], *map(len, suffixes), *bases]), *suffixes])


def _common(one: bytes, two: bytes) -> int:
    """How many bytes two byte strings share in front."""
    length = min(len(one), len(two))
    differing = int.from_bytes(one[:length]) ^ int.from_bytes(two[:length])
    return length - (differing.bit_length() + 7) // 8


def _numbers(values: Iterable[int]) -> bytes:
    """Whole numbers, seven bits a byte, the lowest first."""
    out = bytearray()
    for value in values:
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        out.append(value)
    return bytes(out)
