"""Which leaves of two modules belong together: a name map out of renames, stacks and what the two store otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import SequenceMatcher

from harness.names import Address, Key, Leaf, NameMap, NameMapError, Row, label

__all__ = ["bind", "renamed"]

_SIDES = ("linen", "nnx")


def bind(
    linen: Mapping[Key, Leaf], nnx: Mapping[Key, Leaf], renames: Mapping[str, str], stacks: Mapping[str, int]
) -> NameMap:
    """Pairs the leaves of two modules.

    renames: Linen path prefix -> NNX path prefix ("Dense_0" -> "linear1"). The longest prefix wins; a path that no
        prefix matches is expected to be equal on both sides. Collections are equal always.
    stacks: "linen/<prefix>" or "nnx/<prefix>" -> axis: below that prefix the side stores the layers of a scan stacked
        on that axis while the other side stores them one by one. The prefix's paths are then read as
        "<prefix>/<layer>/...", in `renames` and in neutral names too.
    Raises NameMapError with every problem found.
    """
    left, right = (_unstacked(side, leaves, stacks) for side, leaves in zip(_SIDES, (linen, nnx), strict=True))
    targets = {key: (key[0], renamed(key[1], renames)) for key in left}
    free = {key: leaf for key, (_, leaf) in right.items() if key not in set(targets.values())}
    spare = {key: leaf for key, (_, leaf) in left.items() if targets[key] not in right}
    rows: list[Row] = []
    problems: list[str] = []
    for key, (address, leaf) in left.items():
        name, target = label(key), targets[key]
        there, found = right.get(target, (address, leaf))
        if target not in right:
            problems.append(f"linen {name} {leaf}: nnx has no {label(target)}{_hint(key, leaf, free)}")
        elif found != leaf:
            problems.append(f"linen {name} is {leaf}, nnx {label(target)} is {found}: make shape and dtype equal")
        elif list(targets.values()).count(target) > 1:
            problems.append(f"linen {name} and another leaf are both renamed to nnx {label(target)}: mend `renames`")
        rows.append(Row(name=name, addresses={"linen": address, "nnx": there}, leaf=leaf))
    problems += [_left_over(key, leaf, spare) for key, leaf in free.items()]
    problems += _stale(renames, left) if problems else []
    if problems:
        raise NameMapError(problems)
    return NameMap(rows=tuple(rows))


def renamed(path: tuple[str, ...], renames: Mapping[str, str]) -> tuple[str, ...]:
    """The NNX path of a Linen path: the longest prefix in `renames` replaced, or the path itself."""
    for length in range(len(path), 0, -1):
        target = renames.get("/".join(path[:length]))
        if target is not None:
            return tuple(part for part in target.split("/") if part) + path[length:]
    return path


def _unstacked(side: str, leaves: Mapping[Key, Leaf], stacks: Mapping[str, int]) -> dict[Key, tuple[Address, Leaf]]:
    """Every leaf as if no layer were stacked, with the address that says where it really is."""
    prefixes = {tuple(text.split("/")[1:]): axis for text, axis in stacks.items() if text.startswith(f"{side}/")}
    result = {}
    for (collection, path), leaf in leaves.items():
        prefix = next((prefix for prefix in prefixes if path[: len(prefix)] == prefix), ())
        if not prefix:
            result[collection, path] = Address(collection=collection, path=path), leaf
            continue
        axis = prefixes[prefix]
        if axis >= len(leaf.shape):
            raise NameMapError([f"{side} {label((collection, path))} is {leaf}, without axis {axis}: mend `stacks`"])
        inner = Leaf(shape=leaf.shape[:axis] + leaf.shape[axis + 1 :], dtype=leaf.dtype)
        for index in range(leaf.shape[axis]):
            key = (collection, (*prefix, str(index), *path[len(prefix) :]))
            result[key] = Address(collection=collection, path=path, stack=(axis, index)), inner
    return result


def _left_over(key: Key, leaf: Leaf, spare: Mapping[Key, Leaf]) -> str:
    near = _nearest(key, leaf, spare)
    if not near:
        return f"nnx {label(key)} {leaf} has no Linen counterpart: remove it, or create it in the Linen module too"
    listed = ", ".join(f"{label(other)} {spare[other]}" for other in near)
    return f"nnx {label(key)} {leaf} is left over; nearest: {listed}; cure: {_cure(near[0], key)}"


def _hint(key: Key, leaf: Leaf, free: Mapping[Key, Leaf]) -> str:
    near = _nearest(key, leaf, free)
    if not near:
        return (
            "; no leaf of that collection is free there: create it in the NNX module, or remove it from the Linen one"
        )
    listed = ", ".join(f"{label(other)} {free[other]}" for other in near)
    return f"; nearest: {listed}; cure: {_cure(key, near[0])}"


def _nearest(key: Key, leaf: Leaf, candidates: Mapping[Key, Leaf]) -> list[Key]:
    """Up to three leaves of the same collection: equal shape first, then equal last part, then likeness of the path."""

    def likeness(other: Key) -> tuple[bool, bool, float]:
        ratio = SequenceMatcher(a="/".join(key[1]), b="/".join(other[1])).ratio()
        return candidates[other].shape == leaf.shape, other[1][-1:] == key[1][-1:], ratio

    return sorted((other for other in candidates if other[0] == key[0]), key=likeness, reverse=True)[:3]


def _cure(linen: Key, nnx: Key) -> str:
    """The line of `renames` that pairs the two: the paths without their common end."""
    left, right = list(linen[1]), list(nnx[1])
    while len(left) > 1 and len(right) > 1 and left[-1] == right[-1]:
        left.pop(), right.pop()
    return f'renames={{"{"/".join(left)}": "{"/".join(right)}"}}'


def _stale(renames: Mapping[str, str], left: Mapping[Key, object]) -> list[str]:
    """Renames that touch no leaf. Only told beside other problems: a module without leaves may be renamed for taps."""
    paths = ["/".join(path) + "/" for _, path in left]
    unused = [prefix for prefix in renames if not any(path.startswith(f"{prefix}/") for path in paths)]
    return [f"renames[{prefix!r}] matches no Linen leaf: mend or remove that line" for prefix in unused]
