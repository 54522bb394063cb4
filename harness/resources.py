"""What the compiled train step of a side needs: the program "resources", which every side with a stepper has.

Two sides may compute the same to the last bit and one of them need twice the memory: parameters that a scan hands back,
a state that is not donated, a remat that is lost. Where the graphs are equal nothing of this can differ; where they are
not, the compiler's own account tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from harness.case import Case
from harness.observation import Values
from harness.pair import Side
from harness.scenario import Run

__all__ = ["RESOURCES", "resources"]

RESOURCES = "resources"


def resources(side: Side, case: Case, run: Run) -> Mapping[str, Values]:
    """Bytes of the step that `side` compiles for `case`, int64 (), in the channel "resources". Raises NoStepper."""
    stepper = side.stepper(replace(case, settings={**case.settings, **run.settings}))
    return {RESOURCES: {f"{name} bytes": np.asarray(size, np.int64) for name, size in stepper.compiled.items()}}
