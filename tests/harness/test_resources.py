"""The program "resources": what a side's compiled step needs, compared like everything else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness.comparison import compare
from harness.observe import observe
from harness.pair import Stepper
from harness.scenario import Run
from tests.harness.tiny_pairs import LINEN, NNX, case_of, pair_of


def stepping(side, **sizes):
    """`side` with a step that needs as many bytes, times the setting "rows"."""

    def stepper(case):
        many = {name: size * case.settings["rows"] for name, size in sizes.items()}
        return Stepper(once=lambda: None, compiled=many)

    return replace(side, stepper=stepper)


LEFT, RIGHT = stepping(LINEN, temp=100, alias=7), stepping(NNX, temp=100, alias=0)
CASE = case_of(pair_of(LEFT, RIGHT), settings={"rows": 3})


def seen(side, **settings):
    return observe(side, CASE, Run(side=side.name, program="resources", settings=settings))


def test_bytes_are_observed_with_the_settings_of_the_run():
    assert {name: int(value) for name, value in seen(LEFT).channels["resources"].items()} == {
        "temp bytes": 300,
        "alias bytes": 21,
    }
    assert seen(LEFT, rows=5).channels["resources"]["temp bytes"] == np.int64(500)


def test_a_byte_more_is_a_difference():
    (difference,) = compare(seen(LEFT), seen(RIGHT), ()).differences
    assert (difference.channel, difference.name) == ("resources", "alias bytes")
    assert compare(seen(LEFT), seen(LEFT), ()).first is None


def test_a_side_without_a_stepper_says_so():
    found = seen(LINEN)
    assert (found.error.kind, found.channels) == ("NoStepper", {})
