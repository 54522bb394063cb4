"""Two implementations of one thing. The harness knows nothing else of a code base than what stands here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.case import Case
from harness.observation import Values
from harness.placement import Placement
from harness.scenario import Run, Scenario

__all__ = ["NoGraphs", "NoOracle", "NoShardings", "NoStepper", "Pair", "Parts", "Program", "Side", "Stepper"]

Program = Callable[[Case, Run], Mapping[str, Values]]
"""Runs and returns channel -> (neutral name -> array). Raises as the code base raises; the harness makes it a value."""


Parts = Mapping[str, Callable[[], Any]]
"""Name of a function that a program compiles -> what lowers it, to a `harness.recorder.Lowered`."""


@dataclass(frozen=True, kw_only=True)
class Stepper:
    """A train step ready to be timed.

    once: makes one step, changing the stepper's own state, and returns arrays of it to wait for.
    compiled: sizes in bytes from the compiled step's memory analysis: "temp", "output", "argument", "alias".
    """

    once: Callable[[], object]
    compiled: Mapping[str, int]


class NoStepper(ValueError):
    """A side that offers no train step to be timed."""


class NoGraphs(ValueError):
    """A pair that offers nothing that could be proved."""


class NoOracle(ValueError):
    """Runs in float64 that cannot be had, or do not tell. The message is a sentence for the report."""


class NoShardings(ValueError):
    """Shardings that cannot be had: nobody offers them, or mesh, rules and sizes do not fit. One sentence."""


def _no_oracle(settings: Mapping[str, object]) -> Mapping[str, object]:
    raise NoOracle("this pair does not say how it computes in float64 (Pair.exact)")


def _no_stepper(case: Case) -> Stepper:
    raise NoStepper(f"{case.name}: this pair's sides offer no stepper, so `harness bench` has nothing to time")


def _no_shardings(settings: Mapping[str, object], mesh: Mapping[str, int], rules: str) -> Mapping[str, Placement]:
    raise NoShardings("this pair's sides do not say where their state lives on a mesh (Side.shardings)")


@dataclass(frozen=True, kw_only=True)
class Side:
    """One implementation: its name, the frameworks that its own modules must be seen to use, and its programs.

    frameworks: {"linen"}, {"nnx"} or both (a partly migrated side). Attestation refuses a run that traced others.
    stepper: a compiled train step of a case, for `harness bench` and the program "resources" (`harness.resources`).
    graphs: settings -> program -> part of it -> what lowers that part on abstract values. The parts are all that the
        program compiles. A program that offers none is never proved.
    shardings: (settings, mesh axis -> size, file of logical rules or "") -> neutral name -> Placement, for
        `harness shardings`. Needs no devices. Raises NoShardings.
    """

    name: str
    frameworks: frozenset[str]
    programs: Mapping[str, Program]
    stepper: Callable[[Case], Stepper] = _no_stepper
    graphs: Callable[[Mapping[str, object]], Mapping[str, Parts]] = lambda settings: {}
    shardings: Callable[[Mapping[str, object], Mapping[str, int], str], Mapping[str, Placement]] = _no_shardings


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two (or more) sides of one thing, and how a scenario becomes weights and inputs for them.

    prepare: (settings, seed) -> (weights, inputs), all in NumPy, the same for every side.
    scenarios: scenarios that come with the pair (a user's pair may bring its own); name -> Scenario.
    reordered: (settings, inputs) -> the same inputs with the examples of every batch in another order, so that losses,
        gradients and updates are the same sums taken differently; {} if order has a meaning.
    exact: settings -> settings under which everything is float64, where jax_enable_x64 is set and weights and inputs
        are float64. Raises NoOracle if there are none.
    precision: settings -> name of the dtype that is computed in; goldens of coarser dtypes may drift further.
    models: name -> settings of models at full size, for `harness prove --model`.
    table: neutral name -> side name -> address, for the report: the migration guide that the user wanted anyway.
    """

    name: str
    sides: Mapping[str, Side]
    prepare: Callable[[Mapping[str, object], int], tuple[Values, Values]]
    scenarios: Mapping[str, Scenario] = field(default_factory=dict)
    models: Mapping[str, Callable[[], Mapping[str, object]]] = field(default_factory=dict)
    table: Callable[[Mapping[str, object]], Mapping[str, Mapping[str, str]]] | None = None
    exact: Callable[[Mapping[str, object]], Mapping[str, object]] = _no_oracle
    reordered: Callable[[Mapping[str, object], Values], Values] = lambda settings, inputs: {}
    precision: Callable[[Mapping[str, object]], str] = lambda settings: ""
