"""Blocks of several layers: a scanned stack of cycles and its remainder <-> layers numbered one by one.

A model whose layers are of several kinds stacks whole cycles, c layers written out inside each of n blocks, and keeps
what fills no cycle beside them; unscanned it numbers every layer:
  decoder/layers/layers_<j>/<rest>, stacked, and decoder/layers_remainder/layers_<j>/<rest>
  decoder/layers_<i>/<rest>, where i is block * c + j, or n * c + j in the remainder
`unstack` and `stack` move between the first line and decoder/layers_<block>/layers_<j>/<rest>; the rest is here.
Two families name their blocks otherwise. They are known by leaves that no other has: gemma4, by its scalars, stacks
decoder/scanned_blocks/layers_<j>; qwen3_next, by its first norm, calls a layer of a block layer_<j>.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from impl.checkpoint.dialects.canonical import Canonical
from impl.checkpoint.dialects.layers import ROOT, Group, inner_of, layer_of
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.leaf import Leaf, Leaves, Path, show

__all__ = ["cycle_of", "cycled", "numbered", "numbering"]

PLAIN, BLOCKS = "layers", "scanned_blocks"
_SCALARS = {"layer_scalar", "per_expert_scale"}
_FIRST_NORM = "input_layernorm"


def cycle_of(weights: Leaves, group: Group) -> int:
    """How many layers each block of the group holds; 1 where a block is a layer. `weights` are stacked or apart."""
    inner = set()
    for path in weights:
        found = layer_of(path)
        below = path[2] if path[:2] == (ROOT, group.name) else found[2][0] if found and found[0] == group.name else ""
        if below:
            inner.add(inner_of(below))
    return max(inner) + 1 if inner and -1 not in inner else 1


def numbered(canonical: Canonical, group: Group) -> Canonical:
    """`canonical` with the blocks of a group that was just taken apart as single layers, its remainder after them."""
    size = cycle_of(canonical.weights, group)
    if size == 1:
        return canonical
    rest = {path[2] for path in canonical.weights if path[:2] == (ROOT, _remainder(group.name))}
    depth = group.depth * size + len(rest)
    after = replace(group, name=_single(group.name), form="suffixed", axis=-1, depth=depth)
    return _renamed(canonical, numbering(canonical.weights, group), group.name, after)


def numbering(weights: Leaves, group: Group) -> Callable[[Path], Path]:
    """Path with its block -> path with its layer's number, for a group that was just taken apart."""
    size, name = cycle_of(weights, group), _single(group.name)

    def renamed(path: Path) -> Path:
        found = layer_of(path)
        if size > 1 and found and found[0] == group.name:
            return (ROOT, f"{name}_{found[1] * size + inner_of(found[2][0])}", *found[2][1:])
        if size > 1 and path[:2] == (ROOT, _remainder(group.name)):
            return (ROOT, f"{name}_{group.depth * size + inner_of(path[2])}", *path[3:])
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
    parts = {part for path in canonical.weights if layer_of(path) for part in path[2:]}
    name = BLOCKS if group.name == PLAIN and parts & _SCALARS else ""
    word = "layer" if _FIRST_NORM in parts else PLAIN

    def renamed(path: Path) -> Path:
        found = layer_of(path)
        if not found or found[0] != group.name:
            return path
        block, inner = divmod(found[1], size)
        above = f"{group.name}_{block}" if block < count else _remainder(group.name)
        return (ROOT, above, f"{word}_{inner}", *found[2])

    return _renamed(canonical, renamed, group.name, replace(group, depth=count, stacked_as=name))


def _single(name: str) -> str:
    """The group that the layers of blocks called `name` are numbered in."""
    return PLAIN if name == BLOCKS else name


def _remainder(name: str) -> str:
    return f"{_single(name)}_remainder"


def _renamed(canonical: Canonical, rename: Callable[[Path], Path], before: str, after: Group) -> Canonical:
    def tree(leaves: Leaves) -> dict[Path, Leaf]:
        result: dict[Path, Leaf] = {}
        for path, leaf in leaves.items():
            name = rename(path)
            if name in result:
                raise CheckpointError(f"{show(name)}: two layers get this name: rename one of the two groups")
            result[name] = leaf
        return result

    return replace(
        canonical,
        weights=tree(canonical.weights),
        slots={name: tree(each) for name, each in canonical.slots.items()},
        aux=tree(canonical.aux),
        collections={name: tree(each) if name != "nnx_aux" else each for name, each in canonical.collections.items()},
        groups=tuple(after if other.name == before else other for other in canonical.groups),
    )
