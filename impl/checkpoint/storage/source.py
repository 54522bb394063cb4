"""A checkpoint as it lies on disk, without Orbax and without an array: its tree, its stored arrays and their chunks."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath

from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.dtypes import dtype_name
from impl.checkpoint.leaves.leaf import Empty, Leaf, LeafSpec, Path, show
from impl.checkpoint.leaves.origin import Stored
from impl.checkpoint.leaves.tree import Flat
from impl.checkpoint.storage.chunks import check_chunks, dtype_of_array
from impl.checkpoint.storage.index import (
    MANIFEST,
    Extent,
    Inline,
    StoredArray,
    Value,
    is_indexed,
    read_index,
    stored_arrays,
)
from impl.checkpoint.storage.orbax_metadata import ARRAYS, COMMITTED, SHARDING, STEP, STRINGS, TREE, OrbaxTree
from impl.checkpoint.storage.orbax_reading import read_tree

__all__ = ["Source", "check_array", "noted_source", "open_source", "read_bytes", "specs_of", "strangers"]

_METADATA_NAMES = (".zarray", "zarr.json")
_LONGEST_METADATA = 1 << 20  # bytes
_EMPTY: dict[str, Leaf] = {"None": None, "NamedTuple": None, "Dict": Empty("dict")}


@dataclass(frozen=True, kw_only=True)
class Source:
    """items: the folder. tree: what Orbax notes. arrays: the stored arrays by dotted name.

    flat: the leaves as descriptions that know their origin; strings and empty containers as they are.
    """

    items: FilePath
    tree: OrbaxTree
    arrays: Mapping[str, StoredArray]
    flat: Flat

    @functools.cached_property
    def kinds(self) -> Mapping[str, str]:
        """What kind of value each leaf is, by dotted name."""
        return {".".join(path): kind for path, kind in self.tree.kinds.items()}


def open_source(items: FilePath) -> Source:
    """The checkpoint whose tree lies at `items`. Only metadata is read.

    Raises CheckpointError, naming the leaf or the file, where the tree and the store do not agree, a chunk is missing,
    or a data file is absent or shorter than the index says.
    """
    source = noted_source(items)
    for array in source.arrays.values():
        check_array(array, source.tree)
    _check_files(items, source.arrays.values())
    return source


def noted_source(items: FilePath) -> Source:
    """The checkpoint whose tree lies at `items`, as metadata and index note it; its data files are not looked at.

    Raises CheckpointError, naming the leaf or the file, where the tree and the store do not agree.
    """
    tree = read_tree(items)
    index = read_index(items) if tree.indexed or is_indexed(items) else _loose(items)
    arrays = stored_arrays({key: _inline(items, key, value) for key, value in index.items()})
    wanted = {
        ".".join(path): path for path, kind in tree.kinds.items() if kind in ("jax.Array", "np.ndarray", "scalar")
    }
    _check_names(items, tree, wanted, arrays)
    leaves: dict[Path, Leaf] = {path: _EMPTY.get(kind, Empty("list")) for path, kind in tree.kinds.items()}
    leaves |= {path: tree.strings[".".join(path)] for path, kind in tree.kinds.items() if kind == "string"}
    leaves |= {path: _spec(arrays[name], tree.generators.get(name, "")) for name, path in wanted.items()}
    return Source(items=items, tree=tree, arrays=arrays, flat=Flat(leaves=leaves, lists=tree.lists))


def specs_of(source: Source) -> Flat:
    """The leaves as descriptions alone: a string too is its kind, not its text."""
    leaves = {path: LeafSpec((), "str") if isinstance(leaf, str) else leaf for path, leaf in source.flat.leaves.items()}
    return Flat(leaves=leaves, lists=source.flat.lists)


def strangers(source: Source) -> tuple[str, ...]:
    """Names in the folder that are neither Orbax's nor hold a value."""
    known = {MANIFEST, TREE, SHARDING, STRINGS, ARRAYS, STEP, COMMITTED, "d"} | set(source.arrays)
    names = sorted(entry.name for entry in source.items.iterdir())
    return tuple(name for name in names if name not in known and not name.startswith("ocdbt.process_"))


def _spec(array: StoredArray, generator: str) -> LeafSpec:
    return LeafSpec(array.shape, dtype_name(dtype_of_array(array)), generator, Stored(array.name))


def _loose(items: FilePath) -> dict[str, Value]:
    """An index of arrays that lie in folders and files of their own, as Orbax wrote them before OCDBT."""
    found: dict[str, Value] = {}
    for folder in sorted(entry for entry in items.iterdir() if entry.is_dir() and entry.name != ARRAYS):
        if any((folder / name).is_file() for name in _METADATA_NAMES):
            files = sorted(file for file in folder.rglob("*") if file.is_file())
            names = {file: file.relative_to(items).as_posix() for file in files}
            found |= {name: Extent(name, 0, file.stat().st_size) for file, name in names.items()}
    return found


def _inline(items: FilePath, key: str, value: Value) -> Value:
    """`value`, read where it is an array's metadata that the index holds no copy of."""
    if isinstance(value, Inline) or not key.endswith(_METADATA_NAMES) or value.length > _LONGEST_METADATA:
        return value
    return Inline(read_bytes(items, value))


def read_bytes(items: FilePath, value: Value) -> bytes:
    """The encoded bytes of a value. Raises CheckpointError when the file is not there or too short."""
    if isinstance(value, Inline):
        return value.data
    try:
        file = os.open(items / value.file, os.O_RDONLY)
        try:
            data = os.pread(file, value.length, value.offset)
        finally:
            os.close(file)
    except OSError as problem:
        raise CheckpointError(f"{items / value.file}: cannot be read ({problem}): restore the file") from problem
    if len(data) != value.length:
        raise CheckpointError(f"{items / value.file}: {_ends(value)}: restore the file or take another step")
    return data


def _ends(value: Extent) -> str:
    return f"ends before byte {value.offset + value.length} that the index names, so it is cut"


def check_array(array: StoredArray, tree: OrbaxTree) -> None:
    """Raises CheckpointError, naming the array, where its metadata is none or the store lacks chunks of it."""
    try:
        check_chunks(array, every="every" if tree.every_chunk else "some")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as problem:
        if isinstance(problem, CheckpointError):
            raise
        raise CheckpointError(
            f"{array.name}: its metadata is no {array.form} array's ({type(problem).__name__}: {problem}): "
            "restore the files or take another step"
        ) from problem


def _check_names(
    items: FilePath, tree: OrbaxTree, wanted: Mapping[str, Path], arrays: Mapping[str, StoredArray]
) -> None:
    count = sum(kind in ("jax.Array", "np.ndarray", "scalar") for kind in tree.kinds.values())
    if len(wanted) < count:
        names = [".".join(path) for path in tree.kinds]
        twice = next(name for name in names if names.count(name) > 1)
        raise CheckpointError(f"{items}: two leaves are stored as {twice!r}: rename the key that holds a dot")
    if lost := [path for name, path in wanted.items() if name not in arrays]:
        raise CheckpointError(
            f"{show(lost[0])}: {len(lost)} leaves like this are in _METADATA and not in the store: "
            "restore the files or take another step"
        )
    if extra := [name for name in arrays if name not in wanted]:
        raise CheckpointError(
            f"{extra[0]}: {len(extra)} arrays like this are in the store and not in _METADATA: "
            "restore the files or take another step"
        )
    for path, kind in tree.kinds.items():
        if kind == "string" and ".".join(path) not in tree.strings:
            raise CheckpointError(f"{show(path)}: a string that _strings.json does not hold: restore the file")


def _check_files(items: FilePath, arrays: Iterable[StoredArray]) -> None:
    """Raises CheckpointError for a data file that is not there, lies elsewhere, or ends before its last byte."""
    furthest: dict[str, tuple[int, str, Extent]] = {}
    for array in arrays:
        for value in array.chunks.values():
            if isinstance(value, Extent):
                end = value.offset + value.length
                if value.file not in furthest or end > furthest[value.file][0]:
                    furthest[value.file] = (end, array.name, value)
    for file, (end, name, last) in furthest.items():
        try:
            size = (items / file).stat().st_size
        except OSError as problem:
            raise CheckpointError(
                f"{items / file}: cannot be read ({problem.strerror}), {name} lies in it: restore the file"
            ) from problem
        if not (items / file).resolve().is_relative_to(items.resolve()):
            raise CheckpointError(
                f"{items / file}: leads out of the checkpoint ({name} lies in it): copy the file there"
            )
        if size < end:
            raise CheckpointError(f"{items / file}: {_ends(last)} ({name} is not whole): restore the file")
