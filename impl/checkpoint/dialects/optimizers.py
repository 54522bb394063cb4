"""The optimizer's state: slots that mirror the weights, everything else by its place, and how each side writes it.

A place is a name with slashes, "0/mu" or "inner_states/adam/inner_state/0/mu". What is nested in a state of partitions,
masks or wrappers Linen writes as it does at the top, chains as lists and slots with a "params" level; NNX, when it
writes Linen's tree (D2), turns the top alone and leaves numbered dicts without that level inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.leaf import Leaf, Leaves, Path

__all__ = [
    "is_nested",
    "join_name",
    "leaves_weights_out",
    "numbered_places",
    "split_name",
    "split_optimizer",
]

WHOLE_PARTITIONS = {"adam", "muon"}  # labels of optimizers that share all weights among them


def join_name(path: Path) -> str:
    """Name of a place in the optimizer. Raises CheckpointError for a part that holds a slash."""
    if any("/" in part for part in path):
        raise CheckpointError(f"optimizer key {path} holds a slash, expected plain names: rename that key")
    return "/".join(path)


def split_name(name: str) -> Path:
    """The path that `join_name` made `name` of."""
    return tuple(name.split("/")) if name else ()


def is_nested(name: str) -> bool:
    """Whether a place is inside the state of a partition, a mask or a wrapper."""
    parts = split_name(name)
    return "inner_state" in parts or "inner_states" in parts


def split_optimizer(
    state: Leaves, model: Leaves
) -> tuple[dict[str, dict[Path, Leaf]], dict[str, Leaf], frozenset[str]]:
    """Slots by name, the other leaves by name, and the slots that have no "params" level."""
    slots: dict[str, dict[Path, Leaf]] = {}
    scalars: dict[str, Leaf] = {}
    bare: set[str] = set()
    for path, leaf in state.items():
        # The longest tail that is a weight wins, so that a module named like an optimizer key cannot cut it short.
        start = next((start for start in range(1, len(path)) if path[start:] in model), 0)
        if not start:
            scalars[join_name(path)] = leaf
            continue
        level = path[start - 1] == "params" and start > 1
        name = join_name(path[: start - level])
        if not level:
            bare.add(name)
        slots.setdefault(name, {})[path[start:]] = leaf
    return slots, scalars, frozenset(bare)


def leaves_weights_out(slots: Mapping[str, Leaves], scalars: Mapping[str, Leaf], model: Iterable[Path]) -> bool:
    """Whether weights of `model` may well have no slot: a label or a mask leaves them out, or adapters alone train."""
    trained = {path for tree in slots.values() for path in tree}
    # No state is called so: where one of these has no slot, it is the optimizer that leaves weights out.
    if any(path[-1] in ("kernel", "embedding") and path not in trained for path in model):
        return True
    for name in slots:
        parts = split_name(name)
        for at, part in enumerate(parts):
            if part == "inner_states" and not WHOLE_PARTITIONS.issuperset(parts[at + 1 : at + 2]):
                return True
            inside = at > 1 and parts[at - 2] == "inner_states"
            # A wrapper that skips spikes keeps the last losses beside what it wraps, and leaves nothing out.
            if part == "inner_state" and not inside and join_name((*parts[:at], "losses")) not in scalars:
                return True
    return False


def numbered_places(names: Iterable[str]) -> frozenset[str]:
    """Places whose children are all numbers: the chains that NNX writes as dicts with gaps and Linen as lists."""
    children: dict[Path, set[str]] = {}
    for name in names:
        path = split_name(name)
        for end in range(len(path)):
            children.setdefault(path[:end], set()).add(path[end])
    return frozenset(join_name(path) for path, keys in children.items() if all(key.isdecimal() for key in keys))
