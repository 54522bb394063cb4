"""Reading Orbax's own files beside the arrays of a checkpoint, whoever wrote them and whatever has become of them."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.leaf import Path, show
from impl.checkpoint.storage.orbax_metadata import (
    ARRAYS,
    EMPTY,
    KINDS,
    SEQUENCE,
    SHARDING,
    STEP,
    STRINGS,
    TREE,
    OrbaxTree,
)

__all__ = ["read_step", "read_tree"]

MAX_DEPTH = 256
Hook = Callable[[dict[str, Any]], Any]


def read_tree(items: FilePath) -> OrbaxTree:
    """What the files at `items` say of the tree. Raises CheckpointError, naming the file, for what cannot be read."""
    with _reading(items / TREE, _known({})) as content:
        kinds, lists = _kinds(items / TREE, content["tree_metadata"])
        entries = content["tree_metadata"].values()
        shaped = [entry["key_metadata"] for entry in entries if "write_shape" in entry["value_metadata"]]
        described = {".".join(part for part, _ in map(_step, keys)) for keys in shaped}
        zarr3, custom = bool(content.get("use_zarr3")), content.get("custom_metadata")
        every_chunk = bool(content.get("store_array_data_equal_to_fill_value"))
        indexed = bool(content.get("use_ocdbt"))
    # A save in parts notes an empty container and later what was put into it.
    empty = {path for path, kind in kinds.items() if kind in EMPTY}
    filled = {path[:end] for end in {len(path) for path in empty} for path in kinds if len(path) > end} & empty
    whole = {path: kind for path, kind in kinds.items() if path not in filled}
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
        steps = [_step(each) for each in keys]
        path = tuple(part for part, _ in steps)
        kind = entry["value_metadata"]["value_type"]
        if problem := _problem(path, kind, kinds):
            raise CheckpointError(f"{file}: {show(path)[:200]!r} {problem}: restore the file or take another step")
        kinds[path] = kind
        lists.update(path[:at] for at, (_, kind) in enumerate(steps) if kind == SEQUENCE)
    for path in kinds if lists else ():
        at = next((at for at in range(len(path)) if path[:at] in lists and not path[at].isdecimal()), -1)
        if at >= 0:
            raise CheckpointError(f"{file}: {show(path)} lies in a list at no position: restore the file")
    return kinds, lists


def _step(each: Any) -> tuple[str, Any]:
    """One step of a path and what kind of key it is, as `_known` makes it."""
    if not isinstance(each, tuple):
        raise TypeError(f"{str(each)[:60]} is no key of a tree")
    return each


def _known(known: dict[tuple[str, Any], tuple[str, Any]]) -> Hook:
    """Makes steps of paths of what JSON has of them, each once: as objects they would be most of a large tree."""

    def step(found: dict[str, Any]) -> Any:
        if found.keys() != {"key", "key_type"}:
            return found
        pair = str(found["key"]), found["key_type"]
        return known.setdefault(pair, pair)

    return step


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
def _reading(file: FilePath, hook: Hook = dict) -> Iterator[dict[str, Any]]:
    """The JSON object in `file`, for a block whose stumbling over it is the file's fault. hook: what objects become."""
    try:
        content = json.loads(file.read_bytes().decode(), object_hook=hook)
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


def read_step(folder: FilePath) -> dict[str, Any]:
    """What is noted of the step or folder at `folder`; {} where nothing is."""
    if not (folder / STEP).is_file():
        return {}
    with _reading(folder / STEP) as content:
        if not isinstance(content.get("custom_metadata") or {}, dict):
            raise ValueError("custom_metadata is no object")
        return content
