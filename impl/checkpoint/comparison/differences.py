"""The records of a comparison of two checkpoints: what was asked, what is not the same, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from impl.checkpoint.comparison.distance import EXACT, Distance, Tolerance
from impl.checkpoint.dialects.dialect import Dialect

__all__ = ["CheckpointComparison", "LeafDifference", "NotCompared", "Only", "Reason", "Terms", "Values"]

Reason = Literal["missing", "extra", "shape", "dtype", "value"]
Values = Literal["structure", "values"]
Only = Literal["params", "opt", "all"]


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What is compared, and how closely.

    values: "structure" compares names, shapes and dtypes from the metadata; "values" the arrays too. only: weights,
    optimizer and step, or all.
    """

    values: Values
    tolerance: Tolerance = EXACT
    only: Only = "all"


@dataclass(frozen=True, kw_only=True)
class LeafDifference:
    """One leaf that is not the same in both. part: "weights", "slot 0/mu", "scalars", "step", "state", ...

    missing: only in the left one; extra: only in the right one. gap: what each has, in words, and for reason "value"
    how far apart they are. size: elements that were held against each other.
    """

    part: str
    path: str
    reason: Reason
    gap: Distance
    size: int = 0


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
    values: Values
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
