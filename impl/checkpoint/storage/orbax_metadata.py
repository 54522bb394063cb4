"""Orbax's own files beside the arrays of a checkpoint: the one place that knows their JSON. Orbax is not imported.

  _METADATA                    the tree: one entry a leaf, its keys, what kind of value it is
  _sharding                    how each jax.Array lay on its devices, by the base64 of its dotted name
  _strings.json                leaves that are strings, by dotted name
  array_metadatas/process_<i>  chunk shapes and, for typed random keys, the generator
  _CHECKPOINT_METADATA         who wrote a step or a folder, when, and what the user noted
These files are private to Orbax. They are written only for the releases named in `TESTED`.
"""

from __future__ import annotations

import base64
import functools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.leaf import Path

__all__ = ["OrbaxTree", "check_orbax", "write_step", "write_tree"]

TESTED = ((0, 12), (0, 13))  # from, up to but not including
TREE, SHARDING, STRINGS, ARRAYS = "_METADATA", "_sharding", "_strings.json", "array_metadatas"
STEP, COMMITTED = "_CHECKPOINT_METADATA", "commit_success.txt"
HANDLER = "orbax.checkpoint._src.handlers.pytree_checkpoint_handler.PyTreeCheckpointHandler"
EMPTY = {"None", "Dict", "List", "Tuple", "NamedTuple"}
ARRAY = {"jax.Array", "np.ndarray", "scalar"}
KINDS = ARRAY | EMPTY | {"string"}
SEQUENCE, _DICT = 1, 2


@dataclass(frozen=True, kw_only=True)
class OrbaxTree:
    """What Orbax notes of a tree. A dotted name is a path's parts joined by dots.

    kinds: path -> one of EMPTY and ARRAY, or "string". lists: paths whose keys are list positions. strings, shardings,
    generators: by dotted name; a generator is noted for typed random keys alone. indexed: whether the arrays lie in an
    OCDBT store, which old releases did not note. zarr3: the form of the arrays.
    every_chunk: whether chunks that hold the fill value alone are stored too. custom: what the user noted.
    """

    kinds: Mapping[Path, str]
    lists: frozenset[Path]
    strings: Mapping[str, str]
    shardings: Mapping[str, Mapping[str, Any]]
    generators: Mapping[str, str]
    indexed: bool
    zarr3: bool
    every_chunk: bool
    custom: Any


def check_orbax() -> None:
    """Raises CheckpointError when the installed Orbax is none of those whose files this module is tested with."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version("orbax-checkpoint")
        numbers = tuple(int(part) for part in found.split(".")[:2])
    except (PackageNotFoundError, ValueError):
        found, numbers = "none", ()
    if not TESTED[0] <= numbers < TESTED[1]:
        wanted = [".".join(map(str, end)) for end in TESTED]
        raise CheckpointError(
            f"orbax-checkpoint {found} is installed, its private metadata is known from {wanted[0]} to below "
            f"{wanted[1]}: install one of those to write checkpoints"
        )


def write_tree(items: FilePath, tree: OrbaxTree, arrays: Mapping[str, tuple[Sequence[int], Sequence[int]]]) -> None:
    """Writes the files of `tree` to `items`. arrays: shape and chunk shape of the stored arrays by dotted name."""
    check_orbax()
    content = {"use_ocdbt": True, "use_zarr3": tree.zarr3}
    content |= {"store_array_data_equal_to_fill_value": tree.every_chunk, "custom_metadata": tree.custom}
    entries = ", ".join(_entry(path, kind, tree.lists, arrays) for path, kind in tree.kinds.items())
    with (items / TREE).open("x", encoding="utf-8") as out:  # the tree as text at once: as objects it is ten times it
        out.write(f'{{"tree_metadata": {{{entries}}}, {json.dumps(content)[1:]}')
    texts = {name: json.dumps(noted) for name, noted in tree.shardings.items()}
    if texts:
        _write(items / SHARDING, {base64.b64encode(name.encode()).decode(): text for name, text in texts.items()})
    if tree.strings:
        _write(items / STRINGS, dict(tree.strings))
    rows = [
        {"param_name": name, "write_shape": list(arrays[name][1]), "chunk_shape": list(arrays[name][1])}
        | {"ext_metadata": {"random_key_impl": generator}}
        for name, generator in tree.generators.items()
    ]
    if rows:
        (items / ARRAYS).mkdir()
        _write(items / ARRAYS / "process_0", {"array_metadatas": [{"array_metadata": row} for row in rows]})


def _entry(
    path: Path, kind: str, lists: frozenset[Path], arrays: Mapping[str, tuple[Sequence[int], Sequence[int]]]
) -> str:
    """A leaf's entry in the tree, as JSON."""
    value: dict[str, Any] = {"value_type": kind, "skip_deserialize": kind in EMPTY}
    if kind == "jax.Array":
        value["write_shape"] = list(arrays[".".join(path)][1])
    keys = ", ".join(_key(part, bool(lists) and path[:at] in lists) for at, part in enumerate(path))
    return f'{json.dumps(str(path))}: {{"key_metadata": [{keys}], "value_metadata": {json.dumps(value)}}}'


@functools.lru_cache(maxsize=65536)
def _key(part: str, in_list: bool) -> str:
    return json.dumps({"key": part, "key_type": SEQUENCE if in_list else _DICT})


def write_step(folder: FilePath, before: Mapping[str, Any], item: str, custom: Mapping[str, Any]) -> None:
    """Notes of a folder like `before`, with `custom`. item: the name of the tree's folder below it, "" for itself."""
    handlers: Any = before.get("item_handlers")
    if isinstance(handlers, dict) != bool(item) or not handlers:
        handlers = {item: HANDLER} if item else HANDLER
    now = time.time_ns()
    stamps = {name: before.get(name) or now for name in ("init_timestamp_nsecs", "commit_timestamp_nsecs")}
    empty: dict[str, Any] = {"metrics": {}, "performance_metrics": {}}
    _write(folder / STEP, {**empty, **before, "item_handlers": handlers, **stamps, "custom_metadata": dict(custom)})


def _write(file: FilePath, content: Mapping[str, Any]) -> None:
    with file.open("x", encoding="utf-8") as out:
        out.write(json.dumps(content))  # json.dump to a file is many times slower
