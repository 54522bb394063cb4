"""Groups of layers below `decoder`, and the moves between their forms.

L is the number of layers of a group, s the scan axis. A group is in one of three forms:
  stacked    decoder/layers/<rest>       parameters carry L at axis min(s, rank), all other state at axis 0
  suffixed   decoder/layers_<i>/<rest>   one subtree a layer, as Linen names them
  nested     decoder/layers/<i>/<rest>   the same as NNX lists named them; normalised to suffixed when read
Children called layers_j inside a group (gpt_oss, gemma3) are ordinary names. Layers that stages of a pipeline or chunks
of a stack hold are "stacked" too, but their order is not in the tree: they are carried as they are.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.leaf import (
    KeyArray,
    Leaf,
    LeafSpec,
    Leaves,
    Path,
    rank_of,
    shape_of,
    show,
)
from impl.checkpoint.leaves.tree import sort_key

__all__ = [
    "ROOT",
    "Form",
    "Group",
    "axis_of",
    "describe",
    "find_groups",
    "group_of",
    "inner_of",
    "is_array",
    "layer_of",
    "nested_names",
    "settle",
    "suffixed_names",
]

Form = Literal["stacked", "suffixed", "nested"]
ROOT = "decoder"
_GROUP = re.compile(
    r"^(dense_layers|moe_layers|layers|layers_outside_pipeline|moe_layers_outside_pipeline|scanned_blocks)(?:_(\d+))?$"
)
_CARRIED = re.compile(r"^(pipeline_module|(?:dense|moe)_layers_\d+_\d+)$")
_BESIDE = re.compile(r"^(layers|scanned_blocks)_remainder$")
_INNER = re.compile(r"^layers?_(\d+)$")


@dataclass(frozen=True, kw_only=True)
class Group:
    """One group of layers. depth: L, 0 while undecided. axis: s, -1 where not stacked or undecided.

    candidates: every (s, L) that fits all leaves of a stacked group. stacked_as: what the group is called once it is
    stacked, where that is another name.
    """

    name: str
    form: Form
    depth: int
    axis: int
    candidates: tuple[tuple[int, int], ...] = ()
    stacked_as: str = ""


def describe(group: Group) -> str:
    """A group in words: "stacked at axis 1, 4 layers"."""
    if _CARRIED.match(group.name):
        return "carried as it is: the order of its layers is not in the tree"
    if group.form != "stacked":
        names = f"{group.name}_<i>" if group.form == "suffixed" else f"{group.name}/<i>"
        return f"{names}, {group.depth} layers"
    if group.axis >= 0:
        name = f" as {ROOT}/{group.stacked_as}" if group.stacked_as else ""
        return f"stacked{name} at axis {group.axis}, {group.depth} layers"
    fits = ", ".join(f"{axis} ({depth} layers)" for axis, depth in group.candidates)
    return f"stacked, axis undecided: {fits or 'no axis'} fits"


def find_groups(weights: Leaves, aux: Leaves) -> tuple[Group, ...]:
    """The layer groups of a model tree in name order. `aux`: state that is stacked at axis 0 whatever s is.

    Raises CheckpointError for a group in two forms at once and for a gap in the numbering.
    """
    forms: dict[str, set[Form]] = defaultdict(set)
    indices: dict[str, set[int]] = defaultdict(set)
    for path in (*weights, *aux):
        if len(path) > 2 and path[0] == ROOT and _CARRIED.match(path[1]):
            forms[path[1]].add("stacked")
        found = _GROUP.match(path[1]) if len(path) > 2 and path[0] == ROOT else None
        if not found:
            continue
        name, index = found[1], found[2] or (path[2] if path[2].isdecimal() else None)
        forms[name].add("suffixed" if found[2] else "stacked" if index is None else "nested")
        if index is not None:
            indices[name].add(int(index))
    return tuple(_group(name, forms[name], indices[name], weights, aux) for name in sorted(forms))


def _group(name: str, forms: set[Form], indices: set[int], weights: Leaves, aux: Leaves) -> Group:
    if len(forms) > 1:
        raise CheckpointError(
            f"{ROOT}/{name} is {' and '.join(sorted(forms))} at once, expected one form: rename one of the two"
        )
    form = next(iter(forms))
    if form != "stacked":
        gap = next((index for index in range(len(indices)) if index not in indices), None)
        if gap is not None:
            raise CheckpointError(
                f"{ROOT}/{name}: layer {gap} is absent, layer {max(indices)} is there: take a whole checkpoint"
            )
        return Group(name=name, form=form, depth=len(indices), axis=-1)
    if _CARRIED.match(name):
        return Group(name=name, form=form, depth=0, axis=-1)
    candidates = _candidates(_below(name, weights), _below(name, aux))
    sure = candidates[0] if len(candidates) == 1 else (-1, 0)
    return Group(name=name, form=form, axis=sure[0], depth=sure[1], candidates=candidates)


def is_array(leaf: Leaf) -> bool:
    """Whether `leaf` has axes at all: an array, a typed key, or the description of one."""
    return isinstance(leaf, np.ndarray | KeyArray | LeafSpec)


def _below(name: str, leaves: Leaves) -> dict[Path, Leaf]:
    return {path: leaf for path, leaf in leaves.items() if path[:2] == (ROOT, name) and is_array(leaf)}


def axis_of(leaf: Leaf, scan_axis: int) -> int:
    """Where the layers of a stacked leaf lie: min(s, rank of one layer). Below 0 for a scalar, which has none."""
    return min(scan_axis, rank_of(leaf) - 1)


def _candidates(weights: Leaves, aux: Leaves) -> tuple[tuple[int, int], ...]:
    depths = {shape_of(leaf)[0] if rank_of(leaf) else 0 for leaf in aux.values()}
    if not weights:
        return ((0, depths.pop()),) if len(depths) == 1 else ()
    if any(rank_of(leaf) == 0 for leaf in weights.values()):
        return ()
    found = []
    for scan_axis in range(max(rank_of(leaf) for leaf in weights.values())):
        lengths = {shape_of(leaf)[axis_of(leaf, scan_axis)] for leaf in weights.values()}
        if len(lengths) == 1:
            found.append((scan_axis, lengths.pop()))
    # The streams of every layer carry L in front, so they decide between axes of different length.
    agreed = [pair for pair in found if {pair[1]} == depths]
    return tuple(agreed or found)


def settle(group: Group, weights: Leaves, scan_axis: int) -> Group:
    """`group` with its axis and depth decided: by the tree where only one fits, else by `scan_axis`.

    Raises CheckpointError, naming a leaf, when the leaves of the group agree on no length there.
    """
    if group.form != "stacked" or group.axis >= 0:
        return group
    if _CARRIED.match(group.name):
        first = min(_below(group.name, weights), key=sort_key, default=(ROOT, group.name))
        raise CheckpointError(
            f"{show(first)}: a stage of a pipeline or a chunk of a stack, and the tree does not say which layers it "
            "holds: keep the layout"
        )
    # An axis beyond every leaf's last one is each leaf's last one.
    axis = min(scan_axis, max((rank_of(leaf) for leaf in _below(group.name, weights).values()), default=1) - 1)
    depth = dict(group.candidates).get(axis)
    if depth is not None:
        return replace(group, axis=axis, depth=depth)
    lengths = {
        path: shape_of(leaf)[axis_of(leaf, scan_axis)] if rank_of(leaf) else 0
        for path, leaf in _below(group.name, weights).items()
    }
    usual = Counter(lengths.values()).most_common(1)[0][0] if lengths else 0
    odd = next((path for path in sorted(lengths, key=sort_key) if lengths[path] != usual), (ROOT, group.name))
    fits = [axis for axis, _ in group.candidates]
    raise CheckpointError(
        f"{show(odd)}: {lengths.get(odd, 0)} layers at axis {scan_axis}, the other leaves of {ROOT}/{group.name} have "
        f"{usual}: give the axis it was scanned at ({f'one of {fits} fits' if fits else 'no axis fits all leaves'}), "
        "or keep the layout"
    )


def layer_of(path: Path) -> tuple[str, int, Path] | None:
    """(group, layer, rest) of a suffixed path such as decoder/layers_3/mlp/kernel; None for every other path."""
    found = _GROUP.match(path[1]) if len(path) > 2 and path[0] == ROOT else None
    return (found[1], int(found[2]), path[2:]) if found and found[2] else None


def group_of(part: str) -> str:
    """Name of the group that decoder/<part> belongs to, a remainder beside it included; "" where it is no layer."""
    found = _GROUP.match(part) or _CARRIED.match(part) or _BESIDE.match(part)
    return found[1] if found else ""


def inner_of(part: str) -> int:
    """Number of a layer inside a block, of "layers_3" or "layer_3"; -1 for every other name."""
    found = _INNER.match(part)
    return int(found[1]) if found else -1


def suffixed_names(path: Path, nested: frozenset[str]) -> Path:
    """decoder/layers/3/... as decoder/layers_3/... for the groups that are `nested`; other paths as they are."""
    if len(path) > 2 and path[0] == ROOT and path[1] in nested and path[2].isdecimal():
        return (ROOT, f"{path[1]}_{path[2]}", *path[3:])
    return path


def nested_names(path: Path) -> Path:
    """decoder/layers_3/... as decoder/layers/3/..., the way NNX lists name the layers of a group."""
    found = layer_of(path)
    return (ROOT, found[0], str(found[1]), *found[2]) if found else path
