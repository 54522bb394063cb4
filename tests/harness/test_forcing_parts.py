"""Calls watched, paired and found by name."""

from __future__ import annotations

import numpy as np
import pytest
from flax import nnx

from harness.forcing.attributes import found
from harness.forcing.pairing import aligned, once, paired
from harness.forcing.tape import Arrival, Call, Tape
from harness.forcing.watching import normal, watched
from tests.harness.forced_pair import How, NnxBlock, NnxPart


def recorded(*calls):
    """A tape of calls (path, class, caller) with one value at each border, of the shape of as many ones as `width`."""
    tape = Tape()
    for number, (path, kind, parent, width) in enumerate(calls):
        place = normal(tuple(path.split("/"))), "__call__"
        tape.calls.append(Call(place, tuple(path.split("/")), kind, parent))
        for stream in ("arguments", "output"):
            arrival = Arrival(number, (np.full(width, number, np.float32),), 0, tape.count)
            tape.arrivals.setdefault((place, stream), []).append(arrival)
            tape.count += 1
    return tape


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([("layers_2", "A", -1, 1)], [("layers/2", "A", -1, 1)], [("layers/2", "layers/2")]),
        (
            [("m", "A", -1, 1), ("m/Dense_0", "Dense", 0, 3), ("m/Dense_1", "Dense", 0, 2)],
            [("m", "A", -1, 1), ("m/one", "Linear", 0, 3), ("m/two", "Linear", 0, 2)],
            [("m", "m"), ("m/Dense/0", "m/one"), ("m/Dense/1", "m/two")],
        ),
        ([("m", "A", -1, 1), ("m/n", "N", 0, 3)], [("m", "A", -1, 1), ("m/o", "O", 0, 2)], [("m", "m")]),
    ],
    ids=["numbers", "shapes", "nothing"],
)
def test_calls_are_paired_by_path_or_else_by_what_they_return(left, right, expected):
    found = paired(recorded(*left), recorded(*right), {})
    assert [("/".join(each.left[0][0]), "/".join(each.right[0][0])) for each in found] == expected


def test_arrays_are_paired_by_shape_and_repeated_values_count_once():
    one, two, three = np.ones(1), np.ones((2, 2)), np.ones(3)
    assert aligned((one, two, three), (two, three)) == {1: 0, 2: 1}
    arrivals = [Arrival(0, (np.full(2, value),), 0, 0) for value in (1, 2, 2, 1)]
    assert [each.values[0][0] for each in once(arrivals)] == [1, 2]


def test_a_module_is_found_by_itself_in_lists_and_dicts_and_a_copy_by_its_class():
    class Holder(nnx.Module):
        def __init__(self):
            self.parts = nnx.List([NnxPart(1, 1, ""), NnxPart(1, 1, "")])
            self.named = nnx.Dict(a=nnx.Dict(b=NnxBlock(How())))

    holder, copies = Holder(), {}
    assert found(holder, holder.parts[1], copies) == ("parts", "1")
    assert found(holder, holder.named["a"]["b"], copies) == ("named", "a", "b")
    copied = [nnx.merge(*nnx.split(part), copy=True) for part in holder.parts]
    assert [found(holder, part, copies) for part in copied] == [("parts", "0"), ("parts", "1")]
    assert found(holder, nnx.Dropout(0.5), copies) == ("Dropout",)


def test_what_is_watched_is_put_back():
    before = NnxPart.__call__
    with watched(Tape()):
        assert NnxPart.__call__ is not before
    assert NnxPart.__call__ is before
