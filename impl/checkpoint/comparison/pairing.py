"""Which leaf of one checkpoint is held against which of the other, and what the metadata alone shows of them."""

from __future__ import annotations

from dataclasses import dataclass

from impl.checkpoint.comparison.decoding import Pair
from impl.checkpoint.comparison.differences import LeafDifference, NotCompared, Only, Reason
from impl.checkpoint.comparison.distance import Distance
from impl.checkpoint.dialects.canonical import Canonical
from impl.checkpoint.leaves.leaf import Leaf, LeafSpec, Leaves, Path, dtype_of, key_impl_of, shape_of, show
from impl.checkpoint.leaves.placed import placing
from impl.checkpoint.leaves.tree import sort_key

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


def planned(left: Canonical, right: Canonical, only: Only) -> Plan:
    """The plan for two checkpoints whose layers were brought to one layout and whose arrays came from `placed`."""
    one, two, compared = _parts(left), _parts(right), 0
    differences: list[LeafDifference] = []
    alike: list[Pair] = []
    skipped: list[NotCompared] = []
    order: list[tuple[str, str]] = []
    for part in dict.fromkeys((*one, *two)):
        mine, other = one.get(part, {}), two.get(part, {})
        if not _asked(part, only):
            reason = f"only {only} was asked for"
            skipped.append(NotCompared(part=part, leaves=max(len(mine), len(other)), reason=reason))
            continue
        if part == "state" and not (mine and other):
            mine, other, left_out = _without_streams(mine, other)
            skipped += left_out
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


def _asked(part: str, only: Only) -> bool:
    kind = "params" if part == "weights" else "opt" if part.startswith(("slot ", "scalars", "step")) else "all"
    return only in ("all", kind)


def _without_streams(left: Leaves, right: Leaves) -> tuple[Leaves, Leaves, list[NotCompared]]:
    """State that one side alone has, without its random streams, which not every dialect keeps: those are listed."""
    streams = {path for path, leaf in (left or right).items() if _is_stream(path, leaf)}
    reason = f"only the {'left' if left else 'right'} checkpoint keeps random streams"
    left_out = [NotCompared(part="state", leaves=len(streams), reason=reason)] if streams else []
    one, two = ({path: leaf for path, leaf in each.items() if path not in streams} for each in (left, right))
    return one, two, left_out


def _is_stream(path: Path, leaf: Leaf) -> bool:
    return bool(key_impl_of(leaf)) or any(name == "rngs" or name.endswith("_rngs") for name in path[:-1])


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
        gap = Distance(left=mine, right=other)
        found.append(LeafDifference(part=part, path=show(path), reason=reason, gap=gap))
    return found, alike


def _words(leaf: Leaf) -> str:
    return f"{dtype_of(leaf)} {shape_of(leaf)}"
