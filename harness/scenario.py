"""A scenario: a small declarative file that says what is run, on which sides, and why it exists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.allowance import Allowance

__all__ = ["Run", "Scenario"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One of a case's two runs: a side of the pair, a program that it offers, and settings laid over the case's."""

    side: str
    program: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """How reports call this run."""
        extra = ",".join(f"{key}={value}" for key, value in self.settings.items())
        return f"{self.side}:{self.program}" + (f"({extra})" if extra else "")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is run and why. The file's stem is its name, and `SCENARIO` in it is one of these.

    why: one sentence for the reader of a report.
    program: the program that both sides run. Every side of the pair offers programs under the same names.
    settings: handed to the pair as they are (for `impl`: a ModelConfig under "config", and sizes, steps, optimizer...).
    matrix: case label -> settings laid over `settings`; empty means one case, labelled "default".
    sides: which pairs of sides are compared; the first of each is the ruler.
    relation: empty for a parity of two sides. For a relation within one side: (program, settings) of each second run,
        which must agree with `program` on that same side; `sides` then only says which sides are tried.
    draws: "own": each run draws with its own keys. "replayed": the second draws with the keys of the first, so that
        dropout and other noise is compared exactly; see `harness.randomness`. "if any": the same, where a run draws.
    allow: allowances, each with its reason.
    faults: ids of catalogue faults that this scenario has been seen to catch.
    seconds, gibibytes: limits of one case's worker. devices: more than 1 gives it that many fake ones on the CPU.
    quick: labels of the cases that the quick subset runs; empty means all.
    """

    why: str
    program: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    matrix: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sides: tuple[tuple[str, str], ...] = (("linen", "nnx"),)
    relation: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    pair: str = "impl"
    seed: int = 0
    draws: Literal["own", "replayed", "if any"] = "own"
    allow: tuple[Allowance, ...] = ()
    faults: tuple[str, ...] = ()
    seconds: float = 600.0
    gibibytes: float = 8.0
    devices: int = 1
    quick: tuple[str, ...] = ()
