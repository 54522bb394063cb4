"""What a comparison with a reference found."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Measured", "ReferenceReport", "Run"]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One number held against its bound. where: the element it belongs to, "" for a scalar; scale: the reference's.

    value: the distance. Not a number never passes.
    """

    name: str
    value: float
    bound: float
    scale: float
    where: str = ""

    @property
    def passed(self) -> bool:
        """Whether the distance is within its bound."""
        return self.value <= self.bound

    @property
    def share(self) -> float:
        """The distance as a part of its bound: what ranks measurements of different size."""
        if self.value <= self.bound:
            return self.value / self.bound if self.bound else 0.0
        return float("inf") if not self.bound or self.value != self.value else self.value / self.bound


@dataclass(frozen=True, kw_only=True)
class Run:
    """One side on one variant of the inputs. Each group is empty where the reference does not have it."""

    variant: str
    side: str
    logits: tuple[Measured, ...]
    terms: tuple[Measured, ...]
    gradients: tuple[Measured, ...]

    @property
    def measured(self) -> tuple[Measured, ...]:
        """Everything that was held against a bound."""
        return (*self.logits, *self.terms, *self.gradients)

    @property
    def passed(self) -> bool:
        """Whether something was compared and everything is within its bound."""
        return bool(self.measured) and all(row.passed for row in self.measured)


@dataclass(frozen=True, kw_only=True)
class ReferenceReport:
    """case: what the reference calls itself; source: who computed it. parameters: numbers in the model.

    reasons: why each kind of bound is what it is. notes: what was read in a way that should be known.
    """

    case: str
    source: str
    parameters: int
    runs: tuple[Run, ...]
    reasons: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether there are runs and every one of them passed."""
        return bool(self.runs) and all(run.passed for run in self.runs)
