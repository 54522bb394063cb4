"""Verdicts as JSON and back."""

import json
from dataclasses import replace

import numpy as np
import pytest

from harness.comparison import Comparison, Counts
from harness.difference import Difference
from harness.verdict import Ending
from harness.verdict_json import from_json, to_json
from tests.harness.test_verdict import BASE, FAR, GOOD, WIDE, ended, run, verdict


def odd_verdict():
    difference = Difference(
        channel="outputs",
        name="logits",
        reason="value",
        left="1.5",
        right="2.5",
        where=(1, 4),
        max_abs=float("inf"),
        max_rel=float("-inf"),
        ulp=2**64 - 3,
        allowed_by=WIDE,
    )
    counts = Counts(expected=5, compared=4, missing=1, extra=2, differing=3)
    parity = Comparison(
        left="linen", right="nnx", channels={"outputs": counts}, differences=(difference,), unused=(WIDE,)
    )
    whole = verdict(run(BASE), run(FAR, "nnx"))
    return replace(
        whole,
        parity=parity,
        drift=(parity, parity),
        ending=Ending.DRIFTED,
        module="decoder/mlp",
        not_compared={"b": "no"},
    )


@pytest.mark.parametrize("make", [odd_verdict, lambda: ended(Ending.SKIPPED), lambda: GOOD])
def test_json_round_trip_loses_nothing(make):
    text = json.dumps(to_json(make()), allow_nan=False)
    assert from_json(json.loads(text)) == make()
    assert type(from_json(json.loads(text)).sides) is tuple


def test_json_keeps_nan():
    first = replace(odd_verdict().parity.differences[0], max_rel=float("nan"))
    text = json.dumps(to_json(replace(GOOD, first=first)), allow_nan=False)
    assert np.isnan(from_json(json.loads(text)).first.max_rel)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 3}, "unknown fields colour"),
        ({"seconds": "fast"}, "verdict.seconds"),
        ({"sides": ["linen"]}, "verdict.sides: 1 items where 2 belong"),
        ({"rung": "ALMOST"}, "ALMOST"),
        ({"case": 4}, "verdict.case: 4 is not of type str"),
        ({"seconds": True}, "verdict.seconds"),
    ],
)
def test_json_of_another_shape_is_refused_by_place(change, message):
    with pytest.raises(ValueError, match=message):
        from_json({**to_json(GOOD), **change})
    with pytest.raises(ValueError, match="fields case are absent"):
        from_json({key: value for key, value in to_json(GOOD).items() if key != "case"})
