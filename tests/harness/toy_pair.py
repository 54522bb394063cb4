"""A pair of two files of NumPy, written to disk so that faults can be injected into it, and a catalogue for it."""

from __future__ import annotations

import textwrap
from pathlib import Path

SIDE = '''
import numpy as np


def outputs(weights, x):
    """Module path -> output, in forward order."""
    hidden = np.tanh(x @ weights["first/kernel"])
    return {"first": hidden, "second": hidden @ weights["second/kernel"]}


def forward(case, run):
    found = outputs(case.weights, case.inputs["x"] * case.settings["scale"])
    return {"outputs": {"y": found["second"]}, "claims": {"y is not zero": np.bool_(found["second"].any())}}


def taps(case, run):
    return {"intermediates": outputs(case.weights, case.inputs["x"] * case.settings["scale"])}
'''

PAIR = """
import numpy as np

from harness.pair import Pair, Side
from harness.scenario import Scenario
from toyhouse import left, right


def prepare(settings, seed):
    random = np.random.default_rng([seed, settings["rows"]])
    shapes = {"first/kernel": (5, 7), "second/kernel": (7, 3)}
    weights = {name: random.standard_normal(shape) for name, shape in shapes.items()}
    return weights, {"x": random.standard_normal((settings["rows"], 5))}


SIDES = {
    name: Side(name=name, frameworks=frozenset(), programs={"forward": side.forward, "taps": side.taps})
    for name, side in (("linen", left), ("nnx", right))
}
SCENARIO = Scenario(why="a toy", program="forward", settings={"rows": 4, "scale": 2.0}, seconds=60.0, gibibytes=2.0)
TOY = Pair(name="toy", sides=SIDES, prepare=prepare, scenarios={"toy": SCENARIO})
"""

FAULTS = """
from pathlib import Path

from harness.faults import Catalogue, Edit, Fault, Variation

RIGHT = "toyhouse/right.py"
SECOND = '"second": hidden @ weights["second/kernel"]'


def fault(name, old, new, module, channel="outputs", expect="diverged"):
    return Fault(
        id=name, title="a " + name, source="FM06", channel=channel, module=module, expect=expect,
        edits=(Edit(RIGHT, old, new),), scenarios=(("toy", "default"),),
    )


def variation(name, **more):
    return Variation(id=name, title="a " + name, scenario="toy", cell="default", **more)


CATALOGUE = Catalogue(
    root=Path(__file__).parent, pair="toyhouse.pair:TOY", folder="",
    faults=(
        fault("activation", "np.tanh(", "np.sin(", "first"),
        fault("output_doubled", SECOND, '"second": 2 * hidden @ weights["second/kernel"]', "sec*"),
        fault("output_zero", SECOND, '"second": 0 * hidden[:, :3]', "y is not zero", "claims", "claim"),
        fault("no_such_weight", '["second/kernel"]}', '["third/kernel"]}', "*third/kernel*", "outputs", "error"),
        fault("expected_elsewhere", "np.tanh(", "np.cos(", "second"),
        fault("broken_code", "np.tanh(", "np.no_such_function(", "first"),
        fault("harmless", "hidden = ", "unused = hidden = ", "first"),
    ),
    variations=(
        variation("reworded", edits=(Edit(RIGHT, "hidden = np.tanh(x", "hidden = np.tanh((x)"),)),
        variation("resized", settings={"rows": 9, "scale": 0.5}, seed=3),
        variation("not_clean", edits=(Edit(RIGHT, "np.tanh(x @", "np.tanh(1.0000001 * x @"),)),
    ),
)
"""


def write_toy(folder: Path) -> None:
    """Writes the package `toyhouse` (a pair and its two sides) and the module `toyfaults` into `folder`."""
    package = folder / "toyhouse"
    package.mkdir()
    for name, text in {"__init__": "", "left": SIDE, "right": SIDE, "pair": PAIR}.items():
        (package / f"{name}.py").write_text(textwrap.dedent(text))
    (folder / "toyfaults.py").write_text(textwrap.dedent(FAULTS))
