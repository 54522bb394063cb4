"""Which leaf of one checkpoint is held against which of the other, and what the metadata alone shows of them."""

from __future__ import annotations

from dataclasses import dataclass

from impl.checkpoint.canonical import Canonical
from impl.checkpoint.decoding import Pair
from impl.checkpoint.differences import LeafDifference, NotCompared, Only, Reason
from impl.checkpoint.leaf import Leaf, LeafSpec, Leaves, dtype_of, shape_of, show
from impl.checkpoint.placed import placing
from impl.checkpoint.sides import Side
from impl.checkpoint.tree import sort_key

__all__ = ["Plan", "planned"]

ABSENT = "absent"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """differences: those that the metadata shows. pairs: arrays of one shape and dtype; texts: strings. order: part
    and path of every leaf, in forward order. compared: leaves that both sides have."""

    differences: tuple[LeafDifference, ...]
    pairs: tuple[Pair, ...]
    texts: tuple[Pair, ...]
    order: tuple[tuple[str, str], ...]
    compared: int
    not_compared: tuple[NotCompared, ...]

    def encoded_bytes(self, sides: tuple[Side, Side]) -> int:
        """Bytes that the pairs take on disk on both sides."""
        left = {pair.left.source for pair in self.pairs}
        right = {pair.right.source for pair in self.pairs}
        return sum(side.encoded_bytes(path) for side, each in zip(sides, (left, right), strict=True) for path in each)


def planned(left: Canonical, right: Canonical, only: Only) -> Plan:
    """The plan for two checkpoints whose layers were brought to one layout and whose arrays came from `placed`."""
    one, two, compared = _parts(left), _parts(right), 0
    differences: list[LeafDifference] = []
    alike: list[Pair] = []
    skipped: list[NotCompared] = []
    order: list[tuple[str, str]] = []
    for part in dict.fromkeys((*one, *two)):
        mine, other = one.get(part, {}), two.get(part, {})
        if reason := _reason_to_skip(part, mine, other, only):
            skipped.append(NotCompared(part=part, leaves=max(len(mine), len(other)), reason=reason))
            continue
        compared += len(set(mine) & set(other))
        rows, pairs = _differences(part, mine, other)
        differences += rows
        alike += pairs
        order += [(part, show(path)) for path in sorted(set(mine) | set(other), key=sort_key)]
    texts = tuple(pair for pair in alike if pair.left.dtype == "str")
    return Plan(
        differences=tuple(differences),
        pairs=tuple(pair for pair in alike if pair.left.dtype != "str"),
        texts=texts,
        order=tuple(order),
        compared=compared,
        not_compared=tuple(skipped),
    )


def _parts(canonical: Canonical) -> dict[str, Leaves]:
    parts: dict[str, Leaves] = {"weights": canonical.weights}
    for name in sorted(canonical.slots):
        parts[f"slot {name}"] = canonical.slots[name]
    # None is how a list shows an empty optimizer state; dicts leave it out.
    parts["scalars"] = {(name,): leaf for name, leaf in canonical.scalars.items() if leaf is not None}
    parts["step"] = canonical.step
    parts["state"] = canonical.aux
    for name in sorted(canonical.collections):
        parts[f"collection {name}"] = canonical.collections[name]
    return {part: leaves for part, leaves in parts.items() if leaves}


def _reason_to_skip(part: str, left: Leaves, right: Leaves, only: Only) -> str:
    kind = "params" if part == "weights" else "opt" if part.startswith(("slot ", "scalars", "step")) else "all"
    if only not in ("all", kind):
        return f"only {only} was asked for"
    if part == "state" and not (left and right):
        side = "left" if left else "right"
        return f"only the {side} checkpoint keeps random streams and other state besides the weights"
    return ""


def _differences(part: str, left: Leaves, right: Leaves) -> tuple[list[LeafDifference], list[Pair]]:
    """What the metadata shows, and the arrays and strings that are alike as far as it goes."""
    found: list[LeafDifference] = []
    alike: list[Pair] = []
    for path in sorted(set(left) | set(right), key=sort_key):
        if path not in right:
            texts: tuple[Reason, str, str] = ("missing", _words(left[path]), ABSENT)
        elif path not in left:
            texts = ("extra", ABSENT, _words(right[path]))
        elif shape_of(left[path]) != shape_of(right[path]):
            texts = ("shape", str(shape_of(left[path])), str(shape_of(right[path])))
        elif dtype_of(left[path]) != dtype_of(right[path]) and part != "step":
            texts = ("dtype", dtype_of(left[path]), dtype_of(right[path]))
        else:
            one, two = left[path], right[path]
            if isinstance(one, LeafSpec) and isinstance(two, LeafSpec):
                alike.append(Pair(part=part, path=path, left=placing(one), right=placing(two)))
            continue
        reason, mine, other = texts
        found.append(LeafDifference(part=part, path=show(path), reason=reason, left=mine, right=other))
    return found, alike


def _words(leaf: Leaf) -> str:
    return f"{dtype_of(leaf)} {shape_of(leaf)}"
