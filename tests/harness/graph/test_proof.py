"""Proofs of scanned, rematerialised and sharded programs: what is proved, what is not, and where the two part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from harness.graph.proof import prove
from harness.recorder import Leaf, lower

LAYERS, ROWS, WIDTH = 5, 3, 8
WEIGHTS = {
    "kernel": jax.ShapeDtypeStruct((LAYERS, WIDTH, WIDTH), "float32"),
    "scale": jax.ShapeDtypeStruct((LAYERS, WIDTH), "float32"),
}
INPUT = jax.ShapeDtypeStruct((ROWS, WIDTH), "float32")
HERE = Path(__file__).name


def left_layer(hidden, weights):
    return jnp.tanh(hidden @ weights["kernel"]) * weights["scale"] + 1e-5, None


def right_layer(hidden, weights):
    return weights["scale"] * jnp.tanh(hidden @ weights["kernel"]) + 1e-5, None


def wrong_layer(hidden, weights):
    return weights["scale"] * jnp.tanh(hidden @ weights["kernel"]) + 1e-6, None


def stack_of(name):
    return Leaf(tuple(f"{name}/{layer}" for layer in range(LAYERS)), 0)


def leaf(path):
    """Neutral names of both sides' inputs and outputs: the last key of the path, layer by layer where it is stacked."""
    last = path.rpartition("/")[2]
    return {"kernel": stack_of("kernel"), "scale": stack_of("scale")}.get(last, "x" if last.isdigit() else last)


def gradient_leaf(path):
    found = leaf(path)
    return Leaf(tuple(f"gradient/{name}" for name in found.names), 0) if isinstance(found, Leaf) else found


def program(layer, wrap=jax.checkpoint):
    """(weights, x) -> loss and gradients of a scanned stack of `layer`."""

    def loss(weights, x):
        hidden, _ = lax.scan(wrap(layer), x, weights)
        return (hidden**2).mean()

    def run(weights, x):
        value, grads = jax.value_and_grad(loss)(weights, x)
        return {"loss": value, "grads": grads}

    return run


def lowered(layer, **how):
    return lower(program(layer, **how), (WEIGHTS, INPUT), leaf, gradient_leaf)


@pytest.fixture(scope="module")
def left():
    return lowered(left_layer)


def test_a_scanned_stack_is_proved_layer_by_layer_whatever_the_order_of_arguments_and_statements(left):
    run = program(right_layer)
    right = lower(lambda x, weights: run(weights, x), (INPUT, WEIGHTS), leaf, gradient_leaf)
    proof = prove(left, right)
    assert proof.proved
    assert set(proof.equal) == {"loss", *(f"gradient/{w}/{i}" for w in WEIGHTS for i in range(LAYERS))}
    assert (proof.inputs, proof.constraints, proof.barriers) == (((), ()), (), ())
    assert proof.operations[0] > 50
    assert proof.toolchains[0]["jax"] == jax.__version__


def test_where_two_loops_part_is_told_with_the_line_on_both_sides(left):
    proof = prove(left, lowered(wrong_layer))
    assert not proof.proved
    assert proof.equal == ()
    for divergence in proof.unequal.values():
        first, second = divergence.left[0], divergence.right[0]
        assert (first.op, second.op) == ("add", "add")
        assert (first.operands[1], second.operands[1]) == ("1e-05", "1e-06")
        assert [Path(each.place.file).name for each in (first, second)] == [HERE, HERE]
        lines = Path(__file__).read_text().splitlines()
        assert "+ 1e-5" in lines[first.place.line - 1]
        assert "+ 1e-6" in lines[second.place.line - 1]


SLIPS = {
    "another activation": lambda h, w: (jax.nn.gelu(h @ w["kernel"]) * w["scale"] + 1e-5, None),
    "kernel transposed": lambda h, w: (jnp.tanh(h @ w["kernel"].T) * w["scale"] + 1e-5, None),
    "scale left out": lambda h, w: (jnp.tanh(h @ w["kernel"]) + 0 * w["scale"] + 1e-5, None),
    "applied twice": lambda h, w: left_layer(left_layer(h, w)[0], w),
    "a cast on the way": lambda h, w: ((jnp.tanh(h @ w["kernel"]) * w["scale"]).astype("bfloat16") + 1e-5, None),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_in_a_scanned_layer_leaves_nothing_equal(left, slip):
    def layer(hidden, weights):
        return SLIPS[slip](hidden, weights)[0].astype("float32"), None

    proof = prove(left, lowered(layer))
    assert "loss" in proof.unequal
    assert proof.unequal["loss"].left or proof.unequal["loss"].right


def test_layers_run_backwards_are_not_layers(left):
    def loss(weights, x):
        hidden, _ = lax.scan(jax.checkpoint(left_layer), x, weights, reverse=True)
        return (hidden**2).mean()

    def run(weights, x):
        value, grads = jax.value_and_grad(loss)(weights, x)
        return {"loss": value, "grads": grads}

    assert prove(left, lower(run, (WEIGHTS, INPUT), leaf, gradient_leaf)).equal == ()


def test_a_lost_remat_changes_no_value_and_is_seen(left):
    proof = prove(left, lowered(right_layer, wrap=lambda layer: layer))
    assert {mark.program for mark in proof.barriers} == {0}
    assert not prove(left, lowered(right_layer)).barriers


MESH = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))


def constrained(spec):
    def run(x):
        middle = jnp.sin(x)
        if spec is not None:
            middle = lax.with_sharding_constraint(middle, jax.sharding.NamedSharding(MESH, spec))
        return middle * 2

    return lower(run, (INPUT,))


def test_sharding_constraints_are_compared_beside_the_values():
    P = jax.sharding.PartitionSpec
    split, other, lost = constrained(P("data")), constrained(P(None, "data")), constrained(None)
    assert prove(split, constrained(P("data"))).constraints == ()
    changed = prove(split, other)
    assert changed.proved
    assert [mark.program for mark in changed.constraints] == [0, 1]
    assert "data" in changed.constraints[0].instead
    gone = prove(split, lost)
    assert gone.proved
    (mark,) = gone.constraints
    assert (mark.program, mark.instead) == (0, "")
    assert Path(mark.place.file).name == HERE


def test_outputs_and_inputs_of_one_side_only_are_named_and_prove_nothing():
    one = lower(lambda x, key: {"a": x * 2, "b": x + key}, (INPUT, INPUT), {"0": "x", "1": "key"}.get)
    other = lower(lambda x: {"a": x * 2, "c": x}, (INPUT,), {"0": "x"}.get)
    proof = prove(one, other)
    assert (proof.equal, proof.left_only, proof.right_only) == (("a",), ("b",), ("c",))
    assert proof.inputs == (("key",), ())
    assert not proof.proved
    assert proof.outputs == 3


def test_no_output_at_all_is_no_proof():
    nothing = lower(lambda x: {}, (INPUT,))
    assert not prove(nothing, nothing).proved


def test_inputs_of_another_type_are_other_inputs():
    half = jax.ShapeDtypeStruct((ROWS, WIDTH), "float16")
    assert not prove(lower(lambda x: x * 2, (INPUT,)), lower(lambda x: x * 2, (half,))).proved


def test_layers_that_arrive_apart_and_are_stacked_inside_are_the_stack(left):
    run = program(left_layer)

    def apart(kernels, scales, x):
        return run({"kernel": jnp.stack(kernels), "scale": jnp.stack(scales)}, x)

    kernel, scale = (jax.ShapeDtypeStruct(WEIGHTS[name].shape[1:], "float32") for name in ("kernel", "scale"))
    names = {"0": "kernel", "1": "scale"}

    def name(path):
        which, _, layer = path.partition("/")
        return f"{names[which]}/{layer}" if layer else "x"

    right = lower(apart, ([kernel] * LAYERS, [scale] * LAYERS, INPUT), name, gradient_leaf)
    assert prove(left, right).proved


def test_two_leaves_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two inputs are called x: give each leaf a neutral name"):
        lower(lambda x, y: x + y, (INPUT, INPUT), lambda path: "x")


def test_names_that_do_not_fit_the_program_are_refused(left):
    short = replace(left, inputs=left.inputs[1:])
    with pytest.raises(ValueError, match=r"2 names for 3 inputs|names for .* inputs: the recording does not belong"):
        prove(short, left)
    long = replace(left, inputs=(Leaf(("a", "b"), 0), *left.inputs[1:]))
    with pytest.raises(ValueError, match="2 names for 5 layers of a"):
        prove(long, left)
    high = replace(left, inputs=(Leaf(("a", "b"), 7), *left.inputs[1:]))
    with pytest.raises(ValueError, match="stacked on axis 7, but it is"):
        prove(high, left)
