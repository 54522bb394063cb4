"""Where a divergence is placed."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from harness.allowance import Allowance
from harness.comparison import compare
from harness.locate import locate
from harness.observe import observe
from tests.harness import tiny_pairs
from tests.harness.tiny_pairs import LINEN, NNX, NnxFlat, NnxSlipped, case_of, nnx_outputs, pair_of, side


def place(right, program, left=LINEN, allow=()):
    """The place and the first difference of `program` between two sides."""
    pair = pair_of(left, right)
    case = case_of(pair, program, allow=allow)
    parity = compare(*(observe(pair.sides[run.side], case, run) for run in case.runs), allow)
    return locate(pair, case, parity), parity.first


def faulty(kind, *layers):
    return side("nnx", "nnx", partial(nnx_outputs, kinds=dict.fromkeys(layers, kind)))


@pytest.mark.parametrize("program", ["forward", "grad"])
@pytest.mark.parametrize("layers", [("first",), ("second",), ("third",), ("second", "third")])
def test_a_forward_fault_is_placed_at_the_first_module_that_differs(program, layers):
    found, first = place(faulty(NnxFlat, *layers), program)
    assert found == layers[0]
    assert first.name in ("y", "square")


@pytest.mark.parametrize("layers", [("first",), ("second",), ("first", "second")])
def test_a_gradient_fault_is_placed_at_the_last_parameter_that_differs(layers):
    found, first = place(faulty(NnxSlipped, *layers), "grad")
    assert found == layers[-1]
    assert (first.channel, first.name) == ("gradients", "first/kernel")


def test_without_taps_a_gradient_fault_is_placed_all_the_same():
    outputs = partial(nnx_outputs, kinds={"second": NnxSlipped})
    right = side("nnx", "nnx", outputs)
    del right.programs["taps"]
    assert "taps" not in right.programs
    assert place(right, "grad")[0] == "second"
    assert place(right, "grad", left=side("other", "nnx", nnx_outputs))[0] == "second"


def test_without_taps_a_forward_fault_is_not_placed_at_a_module():
    right = faulty(NnxFlat, "second")
    del right.programs["taps"]
    assert place(right, "forward")[0] not in tiny_pairs.LAYERS


def test_taps_that_fail_are_as_good_as_none():
    def broken(case, run):
        raise RuntimeError("the taps of this side do not work")

    right = side("nnx", "nnx", partial(nnx_outputs, kinds={"first": NnxSlipped}), taps=broken)
    assert place(right, "grad")[0] == "first"


def test_a_module_that_one_side_lacks_is_where_it_begins():
    def taps(case, run):
        found = nnx_outputs(case.weights, case.inputs["x"])
        return {"intermediates": {name: found[name] for name in ("first", "third")}}

    def forward(case, run):
        return {"outputs": {"y": np.float32(0.5)}}

    assert place(side("nnx", "nnx", nnx_outputs, taps=taps, forward=forward), "forward")[0] == "second"


def test_the_settings_of_the_second_run_hold_for_its_taps_too():
    pair = pair_of(LINEN, NNX)
    case = case_of(pair, "forward", relation=(("forward", {"scale": 1.5}),), settings={"scale": 1.0})
    assert case.runs[1].settings == {"scale": 1.5}
    parity = compare(*(observe(pair.sides[run.side], case, run) for run in case.runs), ())
    assert locate(pair, case, parity) == "first"


def declared(channel, *names):
    """A side whose program shows a channel in which `names` are not what the other side has."""

    def program(case, run):
        return {channel: {name: value + (name in names) for name, value in case.weights.items()}}

    return side("nnx", "nnx", nnx_outputs, forward=program)


@pytest.mark.parametrize("channel", ["structure", "shardings", "updates"])
def test_other_values_by_parameter_are_placed_at_the_parameters_module(channel):
    left = side("linen", "linen", tiny_pairs.linen_outputs, forward=declared(channel).programs["forward"])
    assert place(declared(channel, "second/kernel"), "forward", left=left)[0] == "second"


def test_nothing_that_differs_has_no_place():
    found, first = place(NNX, "grad")
    assert (found, first) == ("", None)


def test_forward_noise_within_an_allowance_is_not_the_origin_of_a_gradient_fault():
    def outputs(weights, x):
        return nnx_outputs(weights, x * np.float32(1 + 1e-5), {"second": NnxSlipped})

    allow = tuple(
        Allowance(pattern=pattern, rtol=1e-2, atol=1e-2, because="another kernel")
        for pattern in ("intermediates/*", "loss/*", "gradients/third/*")
    )
    found, first = place(side("nnx", "nnx", outputs), "grad", allow=allow)
    assert first.channel == "gradients"
    assert found == "second"
