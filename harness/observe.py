"""Run one program on one side and make everything that happened a value."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import numpy as np

from harness import environment
from harness.attestation import as_declared, attest
from harness.case import Case
from harness.digest import of_settings
from harness.observation import Failure, Observation, Values
from harness.pair import Program, Side
from harness.resources import RESOURCES, resources
from harness.scenario import Run
from harness.witness import Witness, thoroughly, witnessed

__all__ = ["observe", "performed"]


def observe(side: Side, case: Case, run: Run) -> Observation:
    """`run` of `case` on `side`. Errors of the code base become `Observation.error`; only a harness mistake raises.

    JAX's caches are dropped first: a function that was traced earlier in this process, by the other side perhaps, would
    leave no evidence now. If the evidence is not what the side declares, the program is run once more under a thorough
    witness: one is not refused for a call that was overlooked.
    """
    import jax

    jax.clear_caches()
    seen = _observe(side, case, run, witnessed)
    if not as_declared(side, seen):
        jax.clear_caches()
        seen = _observe(side, case, run, thoroughly)
    return seen


def performed(side: Side, case: Case, run: Run) -> Observation:
    """As `observe`, but nobody looks at what is traced: for a run beside those that a verdict rests on."""
    return _observe(side, case, run, lambda: nullcontext(Witness()))


def _observe(side: Side, case: Case, run: Run, watch: Callable[[], AbstractContextManager[Witness]]) -> Observation:
    here = environment.current()
    error: Failure | None = None
    channels: Mapping[str, Values] = {}
    start = time.perf_counter()
    with watch() as witness, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        try:
            channels = _frozen(_program(side, run)(case, run))
        except Exception as problem:  # whatever the code base raises is an observation
            error = _failure(problem)
    return Observation(
        who=run.side,
        program=run.program,
        channels=channels,
        seconds=time.perf_counter() - start,
        environment=here,
        error=error,
        attestation=attest(witness, of_settings(case.settings)),
        case_digest=case.digest,
        precision=case.precision,
        notes=tuple(dict.fromkeys(f"{item.category.__name__}: {item.message}" for item in caught)),
    )


def _program(side: Side, run: Run) -> Program:
    if run.program == RESOURCES and RESOURCES not in side.programs:
        return partial(resources, side)
    if run.program not in side.programs:
        offered = ", ".join(side.programs)
        raise LookupError(f"side {side.name} offers no program {run.program!r}: it has {offered}")
    return side.programs[run.program]


def _frozen(channels: Mapping[str, Mapping[str, object]]) -> dict[str, Values]:
    """Every value as a NumPy array nobody writes to any more."""
    result: dict[str, Values] = {}
    for channel, values in channels.items():
        arrays = {name: np.array(value) for name, value in values.items()}
        for array in arrays.values():
            array.setflags(write=False)
        result[channel] = arrays
    return result


def _failure(problem: Exception) -> Failure:
    where = "".join(traceback.format_exception(problem))
    return Failure(kind=type(problem).__name__, message=_words(problem), where=where[-6000:])


def _words(problem: Exception) -> str:
    """The error's message, also of an error that cannot say it."""
    try:
        return str(problem)
    except Exception as second:
        return f"({type(problem).__name__} whose message raises {type(second).__name__})"
