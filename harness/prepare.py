"""Make a scenario's cell concrete: weights and inputs in NumPy, and the digest that names them."""

from __future__ import annotations

import numpy as np

from harness.case import Case
from harness.digest import of_case
from harness.discover import Ticket, runs_of, settings_of
from harness.observation import Values
from harness.pair import Pair
from harness.scenario import Scenario

__all__ = ["prepare"]


def _kept(values: Values) -> Values:
    """Copies that nobody can write to: what one side changed in place would reach the other side too."""
    copies = {name: np.array(value) for name, value in values.items()}
    for copy in copies.values():
        copy.setflags(write=False)
    return copies


def prepare(pair: Pair, scenario: Scenario, ticket: Ticket) -> Case:
    """The case of `ticket`. All randomness of a run happens here, from the scenario's seed."""
    settings = settings_of(scenario, ticket.label)
    weights, inputs = (_kept(values) for values in pair.prepare(settings, scenario.seed))
    left, right = runs_of(scenario, ticket)
    golden = ticket.label if left.side == next(iter(pair.sides)) else f"{ticket.label},{left.side}"
    return Case(
        name=ticket.case,
        scenario=ticket.scenario,
        label=ticket.label,
        golden=golden,
        runs=(left, right),
        settings=settings,
        weights=weights,
        inputs=inputs,
        seed=scenario.seed,
        allow=scenario.allow,
        draws=scenario.draws,
        precision=pair.precision(settings),
        digest=of_case({"settings": settings, "program": scenario.program, "seed": scenario.seed}, weights, inputs),
    )
