"""Taking the layers of a group apart and putting them together: the same move for weights, slots and other state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from impl.checkpoint.dialects.layers import ROOT, Group, axis_of, is_array, layer_of
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.leaf import Leaf, Leaves, Path, dtype_of, rank_of, shape_of, show, stack_leaves, take_layer
from impl.checkpoint.leaves.tree import sort_key

__all__ = ["share_streams", "stack", "unstack"]


def unstack(leaves: Leaves, group: Group, scan_axis: int) -> dict[Path, Leaf]:
    """`leaves` with a stacked group taken apart into suffixed layers.

    scan_axis: s for parameters, 0 for other state. Raises CheckpointError for a leaf with another number of layers.
    """
    result: dict[Path, Leaf] = {}
    for path, leaf in leaves.items():
        if path[:2] != (ROOT, group.name):
            result[path] = leaf
            continue
        axis = axis_of(leaf, scan_axis)
        if is_array(leaf) and (axis < 0 or shape_of(leaf)[axis] != group.depth):
            raise CheckpointError(
                f"{show(path)}: shape {shape_of(leaf)} has not {group.depth} layers at axis "
                f"{max(axis, 0)}, as the other leaves of {ROOT}/{group.name} have: "
                "give the right scan axis, or keep the layout"
            )
        for index in range(group.depth):
            result[(ROOT, f"{group.name}_{index}", *path[2:])] = take_layer(leaf, index, axis)
    return result


def stack(leaves: Leaves, group: Group, scan_axis: int) -> dict[Path, Leaf]:
    """`leaves` with a suffixed group put together. Raises CheckpointError when a layer lacks a child others have."""
    result: dict[Path, Leaf] = {}
    parts: dict[Path, dict[int, Leaf]] = defaultdict(dict)
    for path, leaf in leaves.items():
        found = layer_of(path)
        if found and found[0] == group.name:
            parts[found[2]][found[1]] = leaf
        else:
            result[path] = leaf
    for rest in sorted(parts, key=sort_key):
        layers = parts[rest]
        _check_layers(group, rest, layers)
        axis = min(scan_axis, rank_of(layers[0]))
        result[(ROOT, group.stacked_as or group.name, *rest)] = stack_leaves(
            [layers[index] for index in range(group.depth)], axis
        )
    return result


def _check_layers(group: Group, rest: Path, layers: Mapping[int, Leaf]) -> None:
    absent = [index for index in range(group.depth) if index not in layers]
    name = f"{ROOT}/{group.name}_*/{show(rest)}"
    if absent:
        raise CheckpointError(
            f"{name}: absent in layer {absent[0]}, present in layer {min(layers)}: layers of different kinds cannot be "
            "stacked; keep the layout, or take a whole checkpoint"
        )
    kinds = {index: (shape_of(leaf), dtype_of(leaf)) for index, leaf in layers.items()}
    odd = next((index for index in range(group.depth) if kinds[index] != kinds[0]), None)
    if odd is not None:
        raise CheckpointError(
            f"{name}: {kinds[0]} in layer 0, {kinds[odd]} in layer {odd}: "
            "only equal layers can be stacked; keep the layout"
        )


def share_streams(leaves: Leaves, group: Group) -> tuple[dict[Path, Leaf], tuple[str, ...]]:
    """`leaves` with the random streams that several suffixed layers share written out for each layer, and notes.

    NNX stores a variable that several layers hold by reference once, at the first of them; a stack has room for one a
    layer. The layers of a block share theirs, so that each has the one of the nearest layer before it. Only streams are
    filled in: other state that a layer lacks is an error when it is stacked.
    """
    owners: dict[Path, dict[int, Leaf]] = defaultdict(dict)
    for path, leaf in leaves.items():
        found = layer_of(path)
        if found and found[0] == group.name and any(part.endswith("rngs") for part in found[2]):
            owners[found[2]][found[1]] = leaf
    result, shared = dict(leaves), []
    for rest, held in owners.items():
        names = [(ROOT, f"{group.name}_{index}", *rest) for index in range(group.depth)]
        owner = min(held)
        for index, name in enumerate(names):
            owner = index if index in held else owner
            result.setdefault(name, held[owner])
        if len(held) < group.depth:
            shared.append(show(names[min(held)]))
    if not shared:
        return result, ()
    return result, (f"{len(shared)} streams are shared by layers and each got a copy, {shared[0]} the first of them",)
