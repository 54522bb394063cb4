"""Nested dictionaries <-> flat mappings of paths, and the optimizer slots that mirror a parameter tree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from impl.names import Address, BridgeError, gather, nearest

__all__ = ["describe", "flat", "flat_axes", "nested", "overlay", "plain", "slots"]

Path = tuple[str, ...]


def nested(leaves: Mapping[Path, Any]) -> dict[str, Any]:
    """{("a", "b"): x} -> {"a": {"b": x}}."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = leaf
    return tree


def flat(tree: Any) -> dict[Path, Any]:
    """Any pytree -> path of key strings -> leaf; sequence indices and attribute names become keys."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {tuple(_key(entry) for entry in path): leaf for path, leaf in leaves}


def _key(entry: Any) -> str:
    for attribute in ("key", "idx", "name"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    return str(entry)


def slots(leaves: Mapping[Path, Any], table: Mapping[str, Address]) -> dict[str, np.ndarray]:
    """Optimizer leaves by path -> neutral values.

    A subtree that mirrors the parameters becomes "<slot>/<parameter>" ("0/mu/decoder/..."), any other leaf keeps its
    path ("0/count"). A level called "params" above the mirrored tree is dropped. Raises BridgeError if a mirrored
    subtree is not complete.
    """
    wanted = {address.path for address in table.values()}
    mirrored: dict[str, dict[Path, np.ndarray]] = {}
    values: dict[str, np.ndarray] = {}
    for path, leaf in leaves.items():
        cut = next((at for at in range(len(path)) if path[at:] in wanted), -1)
        if cut < 0:
            values["/".join(path)] = np.asarray(leaf)
            continue
        prefix = path[:cut][:-1] if path[:cut][-1:] == ("params",) else path[:cut]
        mirrored.setdefault("/".join(prefix), {})[path[cut:]] = np.asarray(leaf)
    for slot, subtree in mirrored.items():
        try:
            values.update({f"{slot}/{name}": value for name, value in gather(subtree, table).items()})
        except BridgeError as problem:
            raise BridgeError(f"optimizer slot {slot}: {problem}") from problem
    return values


def plain(tree: Any) -> Any:
    """Tuples as lists, named tuples as dictionaries, and None for those without fields: what a checkpoint holds."""
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return {name: plain(getattr(tree, name)) for name in tree._fields} or None
    if isinstance(tree, tuple | list):
        return [plain(item) for item in tree]
    return tree


def overlay(target: Any, tree: Any) -> Any:
    """`target` with every leaf replaced by the leaf of `tree` at the same path; containers stay the target's.

    Raises BridgeError, listing every problem, unless both have the same paths, shapes and dtypes.
    """
    wanted, found = flat(target), flat(tree)
    problems = [nearest(f"{'/'.join(path)} is missing", path, found) for path in wanted if path not in found]
    problems += [nearest(f"{'/'.join(path)} belongs nowhere", path, wanted) for path in found if path not in wanted]
    for path in wanted.keys() & found.keys():
        ours, theirs = wanted[path], found[path]
        if np.shape(ours) != np.shape(theirs) or ours.dtype != theirs.dtype:
            got, wants = (f"{leaf.dtype}{list(np.shape(leaf))}" for leaf in (theirs, ours))
            problems.append(f"{'/'.join(path)} is {got}, expected {wants}")
    if problems:
        raise BridgeError("\n".join(sorted(problems)))
    return jax.tree_util.tree_map_with_path(
        lambda path, _: jax.numpy.asarray(found[tuple(_key(entry) for entry in path)]), target
    )


def flat_axes(specs: Any) -> dict[Path, tuple[Any, ...]]:
    """A tree of PartitionSpecs -> path -> logical names."""
    leaf = jax.sharding.PartitionSpec
    leaves, _ = jax.tree_util.tree_flatten_with_path(specs, is_leaf=lambda node: isinstance(node, leaf))
    return {tuple(_key(entry) for entry in path): tuple(spec) for path, spec in leaves}


def describe(leaf: Any, axes: tuple[Any, ...], stacked: int) -> str:
    """Dtype, shape and logical axes as text: "float32[20,4,6] (embed, q_heads, kv)".

    A stacked leaf is described without its layer axis, which is mentioned only if it is not called "layers".
    """
    shape, names = list(leaf.shape), list(axes)
    note = ""
    if stacked >= 0:
        shape.pop(stacked)
        layer = names.pop(stacked) if stacked < len(names) else "absent"
        note = "" if layer == "layers" else f" layer axis called {layer}"
    return f"{leaf.dtype}[{','.join(map(str, shape))}] ({', '.join(map(str, names))}){note}"
