"""compare: two checkpoints, leaf by leaf, whatever their dialects and layer layouts, without loading them."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path as FilePath

import numpy as np

from impl.checkpoint.comparison.alignment import aligned
from impl.checkpoint.comparison.decoding import decoded_distances
from impl.checkpoint.comparison.differences import CheckpointComparison, LeafDifference, Only, Terms, Values
from impl.checkpoint.comparison.distance import Distance, Tolerance
from impl.checkpoint.comparison.pairing import Plan, planned
from impl.checkpoint.comparison.sharing import differing_places
from impl.checkpoint.dialects.canonical import canonicalise
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.leaf import show
from impl.checkpoint.progress import Watch, untold
from impl.checkpoint.storage.sides import Side, opened

__all__ = ["compare", "compare_under"]


def compare(
    a: FilePath,
    b: FilePath,
    *,
    values: Values,
    rtol: float,
    atol: float,
    only: Only,
) -> CheckpointComparison:
    """`compare_under` without units in the last place, and without telling how far it is."""
    return compare_under(a, b, Terms(values=values, tolerance=Tolerance(rtol=rtol, atol=atol), only=only), untold)


def compare_under(a: FilePath, b: FilePath, terms: Terms, watch: Watch) -> CheckpointComparison:
    """Every difference between the checkpoints at `a` (left) and `b` (right). Stacked layers are compared one by one.

    Values are compared by their encoded bytes first and decoded, leaf by leaf, where those differ. The dtype of the
    step is the dialect's own and is not a difference. watch: called with bytes read and bytes to read, of both sides.
    Raises CheckpointError for a side, or for bytes of a leaf, that cannot be read.
    """
    _check(terms)
    sides = opened(a), opened(b)
    left, right, notes = aligned(*(canonicalise(side.flat) for side in sides))
    plan = planned(left, right, terms.only)
    found = {(row.part, row.path): row for row in plan.differences}
    if terms.values == "values":
        found |= {(row.part, row.path): row for row in _unequal(plan, sides, terms.tolerance, watch)}
    count = Counter(row.reason for row in found.values())
    return CheckpointComparison(
        left=str(a),
        right=str(b),
        left_dialect=left.dialect,
        right_dialect=right.dialect,
        values=terms.values,
        compared=plan.compared,
        missing=count["missing"],
        extra=count["extra"],
        differing=count["shape"] + count["dtype"] + count["value"],
        differences=tuple(found[name] for name in plan.order if name in found),
        not_compared=plan.not_compared,
        notes=tuple(dict.fromkeys((*left.notes, *right.notes, *notes))),
    )


def _check(terms: Terms) -> None:
    if terms.values not in ("structure", "values") or terms.only not in ("params", "opt", "all"):
        raise CheckpointError(
            f"values={terms.values!r}, only={terms.only!r}: expected structure or values, and params, opt or all: "
            "choose of these"
        )
    asked = terms.tolerance
    if not (0 <= asked.rtol < np.inf and 0 <= asked.atol < np.inf and asked.ulp >= 0):
        raise CheckpointError(
            f"rtol={asked.rtol}, atol={asked.atol}, ulp={asked.ulp}: expected finite numbers from 0 up: give such"
        )


def _unequal(plan: Plan, sides: tuple[Side, Side], tolerance: Tolerance, watch: Watch) -> list[LeafDifference]:
    """The leaves whose values differ. Those whose encoded bytes are equal are not decoded."""
    places = differing_places(plan.pairs, sides, watch)
    asked = (replace(pair, places=places[pair.part, pair.path]) for pair in plan.pairs)
    suspects = [pair for pair in asked if pair.places != frozenset()]
    distances = decoded_distances(suspects, *sides, tolerance)
    found = [
        LeafDifference(part=pair.part, path=show(pair.path), reason="value", gap=gap, size=math.prod(pair.left.shape))
        for pair in suspects
        if (gap := distances[pair.part, pair.path]).differing
    ]
    return found + _texts(plan, sides)


def _texts(plan: Plan, sides: tuple[Side, Side]) -> list[LeafDifference]:
    found = []
    for pair in plan.texts:
        left, right = sides[0].text(pair.left.source), sides[1].text(pair.right.source)
        if left != right:
            gap = Distance(differing=1, left=repr(left), right=repr(right))
            found.append(LeafDifference(part=pair.part, path=show(pair.path), reason="value", gap=gap, size=1))
    return found
