"""Blocks of several layers: a scanned stack of cycles and its remainder <-> layers numbered one by one.

A model whose layers are of several kinds stacks whole cycles, c layers written out inside each of n blocks, and keeps
what fills no cycle beside them; unscanned it numbers every layer:
  decoder/layers/layers_<j>/<rest>, stacked, and decoder/layers_remainder/layers_<j>/<rest>
  decoder/layers_<i>/<rest>, where i is block * c + j, or n * c + j in the remainder
`unstack` and `stack` move between the first line and decoder/layers_<block>/layers_<j>/<rest>; the rest is here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from impl.checkpoint.canonical import Canonical
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.layers import ROOT, Group, layer_of
from impl.checkpoint.leaf import Leaf, Leaves, Path

__all__ = ["cycle_of", "cycled", "numbered", "numbering"]

_INNER = re.compile(r"^layers_(\d+)$")
REMAINDER = "_remainder"


def cycle_of(weights: Leaves, group: Group) -> int:
    """How many layers each block of the group holds; 1 where a block is a layer. `weights` are stacked or apart."""
    inner = set()
    for path in weights:
        found = layer_of(path)
        below = path[2] if path[:2] == (ROOT, group.name) else found[2][0] if found and found[0] == group.name else ""
        if below:
            match = _INNER.match(below)
            inner.add(int(match[1]) if match else -1)
    return max(inner) + 1 if inner and -1 not in inner else 1


def numbered(canonical: Canonical, group: Group) -> Canonical:
    """`canonical` with the blocks of a group that was just taken apart as single layers, its remainder after them."""
    size = cycle_of(canonical.weights, group)
    if size == 1:
        return canonical
    rest = {path[2] for path in canonical.weights if path[:2] == (ROOT, group.name + REMAINDER)}
    after = replace(group, form="suffixed", axis=-1, depth=group.depth * size + len(rest))
    return _renamed(canonical, numbering(canonical.weights, group), after)


def numbering(weights: Leaves, group: Group) -> Callable[[Path], Path]:
    """Path with its block -> path with its layer's number, for a group that was just taken apart."""
    size = cycle_of(weights, group)

    def renamed(path: Path) -> Path:
        found = layer_of(path)
        if size > 1 and found and found[0] == group.name:
            return (ROOT, f"{group.name}_{found[1] * size + _number(found[2][0])}", *found[2][1:])
        if size > 1 and path[:2] == (ROOT, group.name + REMAINDER):
            return (ROOT, f"{group.name}_{group.depth * size + _number(path[2])}", *path[3:])
        return path

    return renamed


def cycled(canonical: Canonical, group: Group, size: int) -> Canonical:
    """`canonical` with single layers as blocks of `size` and a remainder, ready to be stacked.

    Raises CheckpointError where there is no whole cycle.
    """
    if size == 1:
        return canonical
    count = group.depth // size
    if not count:
        raise CheckpointError(
            f"{ROOT}/{group.name}: {group.depth} layers make no cycle of {size}: give a smaller one, or keep the layout"
        )

    def renamed(path: Path) -> Path:
        found = layer_of(path)
        if not found or found[0] != group.name:
            return path
        block, inner = divmod(found[1], size)
        above = f"{group.name}_{block}" if block < count else group.name + REMAINDER
        return (ROOT, above, f"layers_{inner}", *found[2])

    return _renamed(canonical, renamed, replace(group, depth=count))


def _number(inner: str) -> int:
    return int(inner.rpartition("_")[2])


def _renamed(canonical: Canonical, rename: Callable[[Path], Path], after: Group) -> Canonical:
    def tree(leaves: Leaves) -> dict[Path, Leaf]:
        return {rename(path): leaf for path, leaf in leaves.items()}

    return replace(
        canonical,
        weights=tree(canonical.weights),
        slots={name: tree(each) for name, each in canonical.slots.items()},
        aux=tree(canonical.aux),
        collections={name: tree(each) if name != "nnx_aux" else each for name, each in canonical.collections.items()},
        groups=tuple(after if other.name == after.name else other for other in canonical.groups),
    )
