"""compare: two checkpoints, leaf by leaf, whatever their dialects and layer layouts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Literal

import numpy as np

from impl.checkpoint.alignment import aligned
from impl.checkpoint.canonical import Canonical, canonicalise
from impl.checkpoint.dialect import Dialect
from impl.checkpoint.distance import Distance, distance
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaf import KeyArray, Leaf, LeafSpec, Leaves, dtype_of, shape_of, show
from impl.checkpoint.store import locate, read_arrays, read_specs
from impl.checkpoint.tree import sort_key

__all__ = ["CheckpointComparison", "LeafDifference", "NotCompared", "compare"]

Reason = Literal["missing", "extra", "shape", "dtype", "value"]
ABSENT = "absent"


@dataclass(frozen=True, kw_only=True)
class LeafDifference:
    """One leaf that is not the same in both. part: "weights", "slot 0/mu", "scalars", "step", "state", ...

    missing: only in the left one; extra: only in the right one. left, right: what each has, in words.
    differing, max_abs, max_rel, ulp, where: as in Distance, for reason "value".
    """

    part: str
    path: str
    reason: Reason
    left: str
    right: str
    differing: int = 0
    max_abs: float = 0.0
    max_rel: float = 0.0
    ulp: int = -1
    where: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NotCompared:
    """A part of the checkpoints that was not compared, how many leaves it has, and why."""

    part: str
    leaves: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class CheckpointComparison:
    """Two checkpoints compared. compared: leaves held against each other, one a layer; differences: all of them."""

    left: str
    right: str
    left_dialect: Dialect
    right_dialect: Dialect
    values: Literal["structure", "values"]
    compared: int
    missing: int
    extra: int
    differing: int
    differences: tuple[LeafDifference, ...]
    not_compared: tuple[NotCompared, ...]
    notes: tuple[str, ...]

    @property
    def outcome(self) -> Literal["EQUAL", "DIFFERENT", "NOTHING COMPARED"]:
        """EQUAL only when something was compared and nothing differs."""
        if self.differences:
            return "DIFFERENT"
        return "EQUAL" if self.compared else "NOTHING COMPARED"

    @property
    def equal(self) -> bool:
        """Whether the outcome is EQUAL."""
        return self.outcome == "EQUAL"


def compare(
    a: FilePath,
    b: FilePath,
    *,
    values: Literal["structure", "values"],
    rtol: float,
    atol: float,
    only: Literal["params", "opt", "all"],
) -> CheckpointComparison:
    """Every difference between the checkpoints at `a` (left) and `b` (right). Stacked layers are compared one by one.

    values: "structure" compares names, shapes and dtypes from the metadata; "values" the arrays too, exactly when both
    tolerances are 0, else |left - right| <= atol + rtol * |left|. only: weights, optimizer and step, or all.
    The dtype of the step is the dialect's own and is not a difference. Raises CheckpointError for an unreadable side.
    """
    _check_options(values, only, rtol, atol)
    left, right, notes = aligned(*(_read(side, values) for side in (a, b)))
    one, two, compared, differences, skipped = _parts(left), _parts(right), 0, [], []
    for part in dict.fromkeys((*one, *two)):
        mine, other = one.get(part, {}), two.get(part, {})
        if reason := _reason_to_skip(part, mine, other, only):
            skipped.append(NotCompared(part=part, leaves=max(len(mine), len(other)), reason=reason))
        else:
            compared += len(set(mine) & set(other))
            differences += _differences(part, mine, other, rtol, atol)
    count = Counter(difference.reason for difference in differences)
    return CheckpointComparison(
        left=str(a),
        right=str(b),
        left_dialect=left.dialect,
        right_dialect=right.dialect,
        values=values,
        compared=compared,
        missing=count["missing"],
        extra=count["extra"],
        differing=count["shape"] + count["dtype"] + count["value"],
        differences=tuple(differences),
        not_compared=tuple(skipped),
        notes=notes,
    )


def _read(side: FilePath, values: str) -> Canonical:
    return canonicalise((read_specs if values == "structure" else read_arrays)(locate(side)))


def _check_options(values: str, only: str, rtol: float, atol: float) -> None:
    if values not in ("structure", "values") or only not in ("params", "opt", "all"):
        raise CheckpointError(
            f"values={values!r}, only={only!r}: expected structure or values, and params, opt or all: choose of these"
        )
    if not (0 <= rtol < np.inf and 0 <= atol < np.inf):
        raise CheckpointError(f"rtol={rtol}, atol={atol}: expected finite numbers from 0 up: give such")


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


def _reason_to_skip(part: str, left: Leaves, right: Leaves, only: str) -> str:
    kind = "params" if part == "weights" else "opt" if part.startswith(("slot ", "scalars", "step")) else "all"
    if only not in ("all", kind):
        return f"only {only} was asked for"
    if part == "state" and not (left and right):
        side = "left" if left else "right"
        return f"only the {side} checkpoint keeps random streams and other state besides the weights"
    return ""


def _differences(part: str, left: Leaves, right: Leaves, rtol: float, atol: float) -> list[LeafDifference]:
    found = []
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
            found += _value(part, show(path), left[path], right[path], (rtol, atol))
            continue
        reason, mine, other = texts
        found.append(LeafDifference(part=part, path=show(path), reason=reason, left=mine, right=other))
    return found


def _value(part: str, path: str, left: Leaf, right: Leaf, tolerance: tuple[float, float]) -> list[LeafDifference]:
    if isinstance(left, LeafSpec) or isinstance(right, LeafSpec):
        return []  # the metadata holds no values
    one, two = (leaf.words if isinstance(leaf, KeyArray) else leaf for leaf in (left, right))
    if part == "step":
        one, two = np.asarray(one, np.int64), np.asarray(two, np.int64)
    if not isinstance(one, np.ndarray) or not isinstance(two, np.ndarray):
        if one == two:
            return []
        return [LeafDifference(part=part, path=path, reason="value", left=repr(one), right=repr(two), differing=1)]
    gap: Distance = distance(one, two, *tolerance)
    if not gap.differing:
        return []
    return [
        LeafDifference(
            part=part,
            path=path,
            reason="value",
            left=str(one[gap.where]),
            right=str(two[gap.where]),
            differing=gap.differing,
            max_abs=gap.max_abs,
            max_rel=gap.max_rel,
            ulp=gap.ulp,
            where=gap.where,
        )
    ]


def _words(leaf: Leaf) -> str:
    return f"{dtype_of(leaf)} {shape_of(leaf)}"
