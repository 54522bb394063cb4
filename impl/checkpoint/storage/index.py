"""What an OCDBT store holds and where: every key, and the file, offset and length of its bytes. No array is read.

Orbax keeps one such store a checkpoint: for a leaf "a.b.kernel" a key with the array's metadata ("a.b.kernel/.zarray"
in zarr 2, "a.b.kernel/zarr.json" in zarr 3) and one key a chunk ("a.b.kernel/0.3" or "a.b.kernel/c/0/3"). The store's
index is a tree of nodes that `tensorstore.ocdbt.dump` shows (TensorStore 0.1.86); small values lie in the node itself.
Nothing here imports jax.
"""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.storage.allocation import return_free_memory, return_large_buffers

__all__ = ["Extent", "Inline", "StoredArray", "Value", "is_indexed", "keys_of", "read_index", "stored_arrays"]

MANIFEST = "manifest.ocdbt"
_METADATA_KEYS: dict[str, Literal["zarr2", "zarr3"]] = {".zarray": "zarr2", "zarr.json": "zarr3"}


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes in a data file: its path relative to the store's folder, offset and length in bytes."""

    file: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Inline:
    """Bytes that lie in the index itself."""

    data: bytes


Value = Extent | Inline


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredArray:
    """One array of a store as it lies on disk.

    shape, chunk_shape: of the array and of one chunk, equal rank. dtype: as the metadata names it ("<f4", "float32").
    metadata: the parsed .zarray or zarr.json. chunks: place in the grid of chunks -> encoded bytes.
    """

    name: str
    form: Literal["zarr2", "zarr3"]
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    dtype: str
    metadata: Mapping[str, Any]
    chunks: Mapping[tuple[int, ...], Value]


def is_indexed(items: Path) -> bool:
    """Whether the arrays below `items` lie in an OCDBT store, the only form that can be re-indexed."""
    return (items / MANIFEST).is_file()


def read_index(items: Path) -> dict[str, Value]:
    """Key -> where its bytes lie, for the newest version of the store at `items`, in key order.

    Raises CheckpointError when a manifest or node cannot be read; their checksums are verified by TensorStore.
    """
    import tensorstore

    return_large_buffers()
    folder = Path(items).absolute()
    try:
        store = tensorstore.KvStore.open({"driver": "file", "path": f"{folder}/"}).result()
        manifest = tensorstore.ocdbt.dump(store).result()
        versions = manifest["versions"]
        if manifest["version_tree_nodes"] or not versions:
            raise CheckpointError(
                f"{folder}/{MANIFEST}: {len(versions)} versions and older ones in nodes of their own, expected the "
                "versions of one save: write the checkpoint again with Orbax"
            )
        newest = max(versions, key=lambda version: version["generation_number"])
        found: dict[str, Value] = {}
        if location := newest["root"].get("location"):
            _walk(tensorstore, store, location, "", found)
        return_free_memory()  # what TensorStore told of the nodes was many times what is kept of it
        return dict(sorted(found.items()))
    except (ValueError, OSError, KeyError, UnicodeDecodeError, RecursionError) as problem:
        if isinstance(problem, CheckpointError):
            raise
        reason = str(problem).strip().splitlines()[0][:300]
        raise CheckpointError(
            f"{folder}: its index cannot be read ({reason}): restore the files or take another step"
        ) from problem


def keys_of(items: Path) -> list[str]:
    """Every key of the newest version of the store at `items`, in order, as TensorStore finds it.

    All nodes are read, and their checksums verified. Raises CheckpointError where one cannot be.
    """
    import tensorstore

    folder = Path(items).absolute()
    try:
        base = {"driver": "file", "path": f"{folder}/"}
        store = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
        return sorted(key.decode() for key in store.list().result())
    except (ValueError, OSError, UnicodeDecodeError) as problem:
        reason = str(problem).strip().splitlines()[0][:300]
        raise CheckpointError(f"{folder}: its index cannot be read ({reason}): check the disk") from problem


def _walk(tensorstore: Any, store: Any, location: str, prefix: str, found: dict[str, Value]) -> None:
    """Adds the entries of the node at `location`, whose keys go on after `prefix`, and of the nodes below it."""
    _, base, rest = location.split(":", 2)
    _below(base + rest.rsplit(":", 2)[0])
    node = tensorstore.ocdbt.dump(store, location).result()
    for entry in node["entries"]:
        key = prefix + entry["key"].decode()
        if "location" in entry:
            _walk(tensorstore, store, entry["location"], prefix + entry["subtree_common_prefix"].decode(), found)
        elif "inline_value" in entry:
            found[key] = Inline(bytes(entry["inline_value"]))
        else:
            found[key] = _extent(entry["indirect_value"])


def _extent(text: str) -> Extent:
    """ "value:ocdbt.process_0/:d/5bea:150:49" as an Extent. Raises ValueError for a path that leaves the store."""
    kind, base, rest = text.split(":", 2)
    path, offset, length = rest.rsplit(":", 2)
    if kind != "value":
        raise ValueError(f"value at {text!r}, expected a file below the store")
    return Extent(_below(base + path), int(offset), int(length))


@functools.lru_cache(maxsize=4096)
def _below(file: str) -> str:
    """`file`, one string for all its extents. Raises ValueError for a path that leaves the store."""
    if Path(file).is_absolute() or ".." in Path(file).parts or "\0" in file or not Path(file).parts:
        raise ValueError(f"value in {file!r}, expected a file below the store")
    return file


def stored_arrays(index: Mapping[str, Value]) -> dict[str, StoredArray]:
    """The arrays of an index by name.

    Raises CheckpointError for a chunk without metadata, metadata that is not in the index itself, and keys of no kind
    that is known.
    """
    metadata: dict[str, tuple[Literal["zarr2", "zarr3"], dict[str, Any]]] = {}
    chunks: defaultdict[str, dict[tuple[int, ...], Value]] = defaultdict(dict)
    for key, value in index.items():
        name, _, last = key.partition("/")
        if last in _METADATA_KEYS:
            metadata[name] = (_METADATA_KEYS[last], _parsed(key, value))
        else:
            chunks[name][_place(key, last)] = value
    if stray := sorted(set(chunks) - set(metadata)):
        raise CheckpointError(f"{stray[0]}: chunks without metadata: restore the files or take another step")
    return {name: _array(name, form, read, chunks[name]) for name, (form, read) in metadata.items()}


def _parsed(key: str, value: Value) -> dict[str, Any]:
    try:
        read = _json(value.data) if isinstance(value, Inline) else None
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        raise CheckpointError(f"{key}: not readable as an array's metadata: restore the files or take another step")
    return read


@functools.lru_cache(maxsize=4096)
def _json(data: bytes) -> Any:
    """Parsed JSON; the layers of a model share theirs, so it is not to be changed."""
    return json.loads(data)


def _place(key: str, last: str) -> tuple[int, ...]:
    """The place in the grid that a chunk's key names: "0.3" in zarr 2, "c/0/3" in zarr 3; () of a scalar."""
    parts = last.split("/")[1:] if last == "c" or last.startswith("c/") else last.split(".")
    if not all(part.isdecimal() for part in parts):
        raise CheckpointError(f"{key}: neither metadata nor a chunk of an array: expected a store that Orbax wrote")
    return tuple(int(part) for part in parts)


def _array(
    name: str, form: Literal["zarr2", "zarr3"], read: Mapping[str, Any], chunks: Mapping[tuple[int, ...], Value]
) -> StoredArray:
    try:
        shape = tuple(int(length) for length in read["shape"])
        grid = read["chunks"] if form == "zarr2" else read["chunk_grid"]["configuration"]["chunk_shape"]
        chunk_shape = tuple(int(length) for length in grid)
        dtype = str(read["dtype"] if form == "zarr2" else read["data_type"])
    except (KeyError, TypeError, ValueError) as problem:
        raise CheckpointError(f"{name}: its metadata lacks a shape, chunks or dtype: take another step") from problem
    # zarr 2 names the one chunk of a scalar "0".
    places = {() if not shape else place: value for place, value in chunks.items()}
    wrong = next((place for place in places if len(place) != len(shape)), None)
    if len(chunk_shape) != len(shape) or min(chunk_shape, default=1) < 1 or wrong is not None:
        raise CheckpointError(
            f"{name}: shape {shape}, chunks of {chunk_shape}, a chunk at {wrong}: expected one rank; take another step"
        )
    return StoredArray(
        name=name, form=form, shape=shape, chunk_shape=chunk_shape, dtype=dtype, metadata=read, chunks=places
    )
