"""Nested trees and their flat form: {path: leaf} plus the places that were lists."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.leaf import Empty, Leaf, Path, show

__all__ = ["Flat", "flatten", "nest", "sort_key"]


@dataclass(frozen=True, kw_only=True)
class Flat:
    """A tree as `leaves`, {path: leaf}, every key a string; `lists` are the paths whose keys are list positions."""

    leaves: Mapping[Path, Leaf]
    lists: frozenset[Path]


def sort_key(path: Path) -> tuple[tuple[str, int, str], ...]:
    """Sort key that puts layers_2 before layers_10: a run of digits at the end of a part counts as a number."""
    return tuple(_natural(part) for part in path)


@functools.lru_cache(maxsize=65536)
def _natural(part: str) -> tuple[str, int, str]:
    head = part.rstrip("0123456789")
    tail = part[len(head) :]
    return (head, int(tail) if tail else -1, tail)


def flatten(tree: Any) -> Flat:
    """Flat form of a tree of dicts, lists and tuples. Tuples become lists, as Orbax stores them."""
    leaves: dict[Path, Leaf] = {}
    lists: set[Path] = set()
    _walk(tree, (), leaves, lists)
    return Flat(leaves=leaves, lists=frozenset(lists))


def _walk(node: Any, path: Path, leaves: dict[Path, Leaf], lists: set[Path]) -> None:
    if isinstance(node, Mapping):
        for key, child in node.items():
            _walk(child, (*path, str(key)), leaves, lists)
        if not node:
            leaves[path] = Empty("dict")
    elif isinstance(node, list | tuple):
        for position, child in enumerate(node):
            _walk(child, (*path, str(position)), leaves, lists)
        if node:
            lists.add(path)
        else:
            leaves[path] = Empty("list")
    else:
        leaves[path] = node


def nest(flat: Flat) -> Any:
    """The nested tree of `flat`, keys in natural order; gaps in a list are filled with None.

    Raises CheckpointError where one path is both a leaf and a branch.
    """
    root: dict[str, Any] = {}
    for path in sorted(flat.leaves, key=sort_key):
        leaf = flat.leaves[path]
        value: Any = ({} if leaf.kind == "dict" else []) if isinstance(leaf, Empty) else leaf
        if not path:
            return value
        node = root
        for part in path[:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise CheckpointError(f"{show(path)} lies below {part!r}, which is a leaf: rename one of the two")
        if path[-1] in node:
            raise CheckpointError(f"{show(path)} is both a leaf and a branch: rename one of the two")
        node[path[-1]] = value
    return _restore_lists(root, (), flat.lists)


def _restore_lists(node: Any, path: Path, lists: frozenset[Path]) -> Any:
    if not isinstance(node, dict):
        return node
    children = {key: _restore_lists(child, (*path, key), lists) for key, child in node.items()}
    if path not in lists:
        return children
    return [children.get(str(position)) for position in range(max(map(int, children)) + 1)]
