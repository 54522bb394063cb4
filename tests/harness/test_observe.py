"""Whatever a program does becomes a value: its results, its errors, its warnings."""

from __future__ import annotations

import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from harness.digest import of_settings
from harness.observe import observe
from harness.pair import Side
from harness.scenario import Run
from tests.harness.tiny_pairs import HONEST, LINEN, NNX, case_of

CASE = case_of(HONEST, settings={"scale": 0.5})
VALUES = np.random.default_rng(8).standard_normal((3, 5), dtype="float32")


def seen(program, **settings):
    """What is observed of a side whose only program is `program`."""
    side = Side(name="mine", frameworks=frozenset(), programs={"act": program})
    return observe(side, CASE, Run(side="mine", program="act", settings=settings))


def returning(**channels):
    return seen(lambda case, run: channels)


def test_what_is_observed():
    found = observe(NNX, CASE, Run(side="nnx", program="forward"))
    assert (found.who, found.program, found.case_digest, found.error) == ("nnx", "forward", CASE.digest, None)
    assert found.seconds > 0
    assert found.environment.jax == jax.__version__
    assert found.attestation.config_digest == of_settings(CASE.settings)
    assert list(found.channels) == ["outputs", "claims"]
    assert found.channels["outputs"]["y"].shape == (4, 2)
    assert found.channels["claims"]["y is not zero"].dtype == np.bool_


def test_the_settings_of_the_run_reach_the_program():
    plain, doubled = (
        observe(LINEN, CASE, Run(side="linen", program="taps", settings=more)).channels["intermediates"]["first"]
        for more in ({}, {"scale": 1.25})
    )
    x, kernel = CASE.inputs["x"], CASE.weights["first/kernel"]
    np.testing.assert_allclose(plain, np.tanh(0.5 * x @ kernel), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(doubled, np.tanh(1.25 * x @ kernel), rtol=1e-5, atol=1e-5)


def test_values_are_arrays_of_numpy_that_nobody_writes_to():
    found = returning(outputs={"jax": jnp.asarray(VALUES), "half": jnp.bfloat16(1.5), "float": 0.25, "text": "µ"})
    values = found.channels["outputs"]
    assert [type(value) for value in values.values()] == [np.ndarray] * 4
    assert [str(value.dtype) for value in values.values()] == ["float32", "bfloat16", "float64", "<U1"]
    assert not any(value.flags.writeable for value in values.values())
    with pytest.raises(ValueError, match="read-only"):
        values["jax"][0, 0] = 3.0


def test_values_are_copies():
    held = VALUES.copy()
    found = returning(outputs={"all": held, "part": held[1:, ::2], "again": held})
    held += 1.0
    values = found.channels["outputs"]
    assert values["all"].tobytes() == values["again"].tobytes() == VALUES.tobytes()
    np.testing.assert_array_equal(values["part"], VALUES[1:, ::2])


def test_a_buffer_that_a_program_uses_again_is_copied_each_time():
    buffer = VALUES.copy()

    def program(case, run):
        np.multiply(buffer, 2.0, out=buffer)
        return {"outputs": {"y": buffer}}

    first, second = seen(program), seen(program)
    assert first.channels["outputs"]["y"].tobytes() == (2 * VALUES).tobytes()
    assert second.channels["outputs"]["y"].tobytes() == (4 * VALUES).tobytes()


def test_names_keep_the_order_of_the_program():
    found = returning(outputs=dict.fromkeys(("z", "layers/10", "layers/2", "a"), VALUES), loss={"total": 0.5})
    assert list(found.channels["outputs"]) == ["z", "layers/10", "layers/2", "a"]


class OddError(RuntimeError):
    pass


def test_an_error_is_a_value():
    def program(case, run):
        raise OddError("no such layer: layers/3")

    found = seen(program)
    assert (found.error.kind, found.error.message) == ("OddError", "no such layer: layers/3")
    assert found.error.where.rstrip().endswith("OddError: no such layer: layers/3")
    assert "in program" in found.error.where
    assert __file__ in found.error.where
    assert found.channels == {}
    assert found.seconds > 0


def test_the_whole_cause_of_an_error_is_told_but_no_more_than_fits():
    def deep(left):
        if not left:
            raise KeyError("kernel")
        try:
            deep(left - 1)
        except Exception as problem:
            raise OddError(f"layer {left}") from problem

    where = seen(lambda case, run: deep(2)).error.where
    assert where.index("KeyError: 'kernel'") < where.index("layer 1") < where.index("layer 2")
    long = seen(lambda case, run: deep(60)).error.where
    assert len(long) == 6000
    assert long.rstrip().endswith("layer 60")


def test_an_error_inside_jax_is_a_value():
    found = observe(NNX, case_of(HONEST, settings={"scale": "wide"}), Run(side="nnx", program="forward"))
    assert (found.error.kind, found.channels) == ("ValueError", {})
    shapes = seen(lambda case, run: {"outputs": {"y": jax.jit(jnp.matmul)(VALUES, VALUES)}})
    assert (shapes.error.kind, shapes.channels) == ("TypeError", {})


@pytest.mark.parametrize(
    ("returned", "kind"),
    [
        (None, "AttributeError"),
        ({"outputs": VALUES}, "AttributeError"),
        ({"outputs": {"key": jax.random.key(3)}}, "TypeError"),
    ],
)
def test_what_is_no_channel_is_an_error_value(returned, kind):
    found = seen(lambda case, run: returned)
    assert (found.error.kind, found.channels) == (kind, {})


def test_a_program_that_the_side_does_not_offer_is_an_error_value_that_names_it():
    found = observe(NNX, CASE, Run(side="nnx", program="prefill"))
    assert "prefill" in found.error.message
    assert found.channels == {}


def test_a_program_that_the_side_does_not_offer_is_told_in_a_sentence():
    message = observe(NNX, CASE, Run(side="nnx", program="prefill")).error.message
    assert all(word in message for word in ("nnx", "'prefill'", "forward", "grad", "taps"))


class Unspeakable(Exception):
    def __str__(self):
        return self.layer


def test_an_error_that_cannot_be_told_is_a_value_too():
    def program(case, run):
        raise Unspeakable

    assert seen(program).error.kind == "Unspeakable"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_a_wish_to_stop_is_not_swallowed(stop):
    before = sys.getprofile()

    def program(case, run):
        raise stop

    with pytest.raises(stop):
        seen(program)
    assert sys.getprofile() is before
    assert returning(outputs={"y": VALUES}).error is None


def test_warnings_are_notes():
    def program(case, run):
        for _ in range(2):
            warnings.warn("the cache is cold", UserWarning, stacklevel=1)
        warnings.warn("x is old", DeprecationWarning, stacklevel=1)
        warnings.warn("the cache is cold", UserWarning, stacklevel=1)
        return {"outputs": {"y": VALUES}}

    for _ in range(2):  # a warning that Python shows once in a process is a note of every run
        found = seen(program)
        assert found.notes == ("UserWarning: the cache is cold", "DeprecationWarning: x is old")
        assert (found.error, list(found.channels)) == (None, ["outputs"])


def test_warnings_before_an_error_are_notes_too():
    def program(case, run):
        warnings.warn("about to fail", RuntimeWarning, stacklevel=1)
        raise OddError("failed")

    found = seen(program)
    assert found.notes == ("RuntimeWarning: about to fail",)
    assert found.error.kind == "OddError"
    assert returning(outputs={"y": VALUES}).notes == ()
