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
import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.leaf import Path, show

__all__ = ["OrbaxTree", "check_orbax", "read_step", "read_tree", "write_step", "write_tree"]

TESTED = ((0, 12), (0, 13))  # from, up to but not including
TREE, SHARDING, STRINGS, ARRAYS = "_METADATA", "_sharding", "_strings.json", "array_metadatas"
STEP, COMMITTED = "_CHECKPOINT_METADATA", "commit_success.txt"
HANDLER = "orbax.checkpoint._src.handlers.pytree_checkpoint_handler.PyTreeCheckpointHandler"
EMPTY = {"None", "Dict", "List", "Tuple", "NamedTuple"}
ARRAY = {"jax.Array", "np.ndarray", "scalar"}
KINDS = ARRAY | EMPTY | {"string"}
MAX_DEPTH = 256
_SEQUENCE, _DICT = 1, 2


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


def read_tree(items: FilePath) -> OrbaxTree:
    """What the files at `items` say of the tree. Raises CheckpointError, naming the file, for what cannot be read."""
    with _reading(items / TREE) as content:
        kinds, lists = _kinds(items / TREE, content["tree_metadata"])
        entries = content["tree_metadata"].values()
        shaped = [entry["key_metadata"] for entry in entries if "write_shape" in entry["value_metadata"]]
        described = {".".join(str(each["key"]) for each in keys) for keys in shaped}
        zarr3, custom = bool(content.get("use_zarr3")), content.get("custom_metadata")
        every_chunk = bool(content.get("store_array_data_equal_to_fill_value"))
        indexed = bool(content.get("use_ocdbt"))
    above = {path[:end] for path in kinds for end in range(len(path))}
    # A save in parts notes an empty container and later what was put into it.
    whole = {path: kind for path, kind in kinds.items() if kind not in EMPTY or path not in above}
    return OrbaxTree(
        kinds=whole,
        lists=frozenset(lists),
        strings=_strings(items),
        shardings=_shardings(items),
        generators=_generators(items, described),
        indexed=indexed,
        zarr3=zarr3,
        every_chunk=every_chunk,
        custom=custom,
    )


def _kinds(file: FilePath, entries: Mapping[str, Any]) -> tuple[dict[Path, str], set[Path]]:
    """Kind of value by path, and the paths that are lists."""
    kinds: dict[Path, str] = {}
    lists: set[Path] = set()
    for entry in entries.values():
        keys = entry["key_metadata"]
        path = tuple(str(each["key"]) for each in keys)
        kind = entry["value_metadata"]["value_type"]
        if problem := _problem(path, kind, kinds):
            raise CheckpointError(f"{file}: {show(path)[:200]!r} {problem}: restore the file or take another step")
        kinds[path] = kind
        lists.update(path[:at] for at, each in enumerate(keys) if each["key_type"] == _SEQUENCE)
    for path in kinds if lists else ():
        at = next((at for at in range(len(path)) if path[:at] in lists and not path[at].isdecimal()), -1)
        if at >= 0:
            raise CheckpointError(f"{file}: {show(path)} lies in a list at no position: restore the file")
    return kinds, lists


def _problem(path: Path, kind: str, known: Mapping[Path, str]) -> str:
    """What forbids a leaf, "" for nothing. Names become file names when a checkpoint is unpacked."""
    if not path or path in known:
        return "is there twice" if path else "has no name"
    if len(path) > MAX_DEPTH:
        return f"lies {len(path)} levels deep, at most {MAX_DEPTH} are read"
    bad = [part for part in path if part in ("", ".", "..") or "/" in part or "\0" in part]
    if bad:
        return f"has the key {bad[0]!r}, which leaves the folder or splits a name"
    return "" if kind in KINDS else f"is a {kind!r}, expected one of {sorted(KINDS)}"


@contextlib.contextmanager
def _reading(file: FilePath) -> Iterator[dict[str, Any]]:
    """The JSON object in `file`, for a block whose stumbling over it is the file's fault."""
    try:
        content = json.loads(file.read_bytes())
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__}, expected an object")
        yield content
    except CheckpointError:
        raise
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as problem:
        words = f"{type(problem).__name__}: {str(problem)[:200]}"
        raise CheckpointError(f"{file}: cannot be read ({words}): restore the file or take another step") from problem


def _strings(items: FilePath) -> dict[str, str]:
    if not (items / STRINGS).is_file():
        return {}
    with _reading(items / STRINGS) as content:
        return {str(name): str(text) for name, text in content.items()}


def _shardings(items: FilePath) -> dict[str, dict[str, Any]]:
    if not (items / SHARDING).is_file():
        return {}
    with _reading(items / SHARDING) as content:
        known: dict[str, dict[str, Any]] = {}  # most leaves of a checkpoint share a few texts
        for text in set(content.values()):
            known[text] = dict(json.loads(text))
            list(known[text].get("partition_spec") or [])
        return {base64.b64decode(name, validate=True).decode(): known[text] for name, text in content.items()}


def _generators(items: FilePath, described: set[str]) -> dict[str, str]:
    """Generator by dotted name; every process that wrote notes all of them. described: names that must be noted."""
    found: dict[str, str] = {}
    noted: set[str] = set()
    for file in sorted((items / ARRAYS).glob("process_*")):
        with _reading(file) as content:
            for row in content["array_metadatas"]:
                entry = row["array_metadata"]
                noted.add(entry["param_name"])
                if generator := (entry.get("ext_metadata") or {}).get("random_key_impl"):
                    found[entry["param_name"]] = str(generator)
    if lost := sorted(described - noted):
        raise CheckpointError(
            f"{items / ARRAYS}: {lost[0]} is not noted, and whether it is a typed random key is noted nowhere else: "
            "restore the file or take another step"
        )
    return found


def write_tree(items: FilePath, tree: OrbaxTree, arrays: Mapping[str, tuple[Sequence[int], Sequence[int]]]) -> None:
    """Writes the files of `tree` to `items`. arrays: shape and chunk shape of the stored arrays by dotted name."""
    check_orbax()
    entries = {}
    for path, kind in tree.kinds.items():
        name = ".".join(path)
        value: dict[str, Any] = {"value_type": kind, "skip_deserialize": kind in EMPTY}
        if kind == "jax.Array":
            value["write_shape"] = list(arrays[name][1])
        kinds = [_SEQUENCE if path[:at] in tree.lists else _DICT for at in range(len(path))]
        keys = [{"key": part, "key_type": each} for part, each in zip(path, kinds, strict=True)]
        entries[str(path)] = {"key_metadata": keys, "value_metadata": value}
    content = {"tree_metadata": entries, "use_ocdbt": True, "use_zarr3": tree.zarr3}
    content |= {"store_array_data_equal_to_fill_value": tree.every_chunk, "custom_metadata": tree.custom}
    _write(items / TREE, content)
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


def read_step(folder: FilePath) -> dict[str, Any]:
    """What is noted of the step or folder at `folder`; {} where nothing is."""
    if not (folder / STEP).is_file():
        return {}
    with _reading(folder / STEP) as content:
        if not isinstance(content.get("custom_metadata") or {}, dict):
            raise ValueError("custom_metadata is no object")
        return content


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
