"""What is proved equal must be equal: random edits, and every way that is known to make two programs look alike."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from harness.graph.proof import prove
from harness.recorder import lower
from tests.harness.graph.programs import INPUTS, SHAPE, edited, random_program, runnable

ABSTRACT = [jax.ShapeDtypeStruct(SHAPE, "float32")] * INPUTS


def proof_of(one, other, arguments=ABSTRACT):
    return prove(lower(one, arguments), lower(other, arguments))


def values(seed):
    random = np.random.default_rng([seed, 13])
    return [random.normal(size=SHAPE).astype(np.float32) for _ in range(INPUTS)]


@pytest.mark.parametrize("seed", range(40))
def test_an_edit_that_changes_a_bit_is_never_proved_equal(seed):
    program = random_program(seed)
    one, other = runnable(program), runnable(edited(program, seed))
    proof = proof_of(one, other)
    for trial in range(2):
        left, right = (jax.jit(each)(*values(seed + trial)) for each in (one, other))
        for name in proof.equal:
            assert np.asarray(left[name]).tobytes() == np.asarray(right[name]).tobytes(), name


def test_most_edits_change_something_so_that_the_test_above_tests():
    changed = 0
    for seed in range(25):
        program = random_program(seed)
        changed += not proof_of(runnable(program), runnable(edited(program, seed))).proved
    assert changed > 18


@pytest.mark.parametrize("seed", range(15))
def test_a_program_is_proved_equal_to_itself_with_its_inputs_in_another_order(seed):
    run = runnable(random_program(seed))
    names = {"0": "2", "1": "0", "2": "1"}
    one = lower(run, ABSTRACT)
    other = lower(lambda *inputs: run(inputs[1], inputs[2], inputs[0]), ABSTRACT, inputs=names.__getitem__)
    proof = prove(one, other)
    assert proof.proved
    assert len(proof.equal) == INPUTS + 1


def counted(weigh):
    def run(x, *_):
        return lax.fori_loop(0, 3, lambda i, out: lax.fori_loop(0, 3, lambda j, y: y * 0.5 + weigh(i, j), out), x)

    return run


def test_the_counter_of_an_inner_loop_is_not_that_of_the_outer_one():
    inner, outer = counted(lambda i, j: 3.0 * i + j), counted(lambda i, j: 3.0 * j + i)
    assert not proof_of(inner, outer).proved
    assert proof_of(inner, inner).proved


def test_how_often_a_loop_runs_counts():
    def looped(times):
        return lambda x, *_: lax.fori_loop(0, times, lambda i, y: jnp.sin(y), x)

    assert not proof_of(looped(3), looped(4)).proved


def test_what_a_loop_carries_may_come_in_any_order():
    def forwards(x, y, z):
        return lax.fori_loop(0, 4, lambda i, c: (jnp.sin(c[1]), c[0] * z), (x, y))[0]

    def backwards(x, y, z):
        return lax.fori_loop(0, 4, lambda i, c: (z * c[1], jnp.sin(c[0])), (y, x))[1]

    assert proof_of(forwards, backwards).proved


def test_two_callbacks_are_not_one_because_they_have_one_number():
    def called(function):
        return lambda x, *_: jax.pure_callback(function, jax.ShapeDtypeStruct(SHAPE, "float32"), x)

    assert not proof_of(called(np.sin), called(np.cos)).proved


def test_numbers_drawn_by_the_device_are_equal_to_nothing():
    def drawn(x, *_):
        return lax.rng_uniform(np.float32(0), np.float32(1), SHAPE) + x

    assert not proof_of(drawn, drawn).proved


def test_keys_that_are_computed_with_are_values_like_others():
    def masked(key):
        return lambda x, *_: x * jax.random.bernoulli(jax.random.key(key), 0.3, SHAPE)

    assert proof_of(masked(3), masked(3)).proved
    assert not proof_of(masked(3), masked(4)).proved


ALIKE = {
    "branches": (
        lambda x, y, z: lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, y),
        lambda x, y, z: lax.cond(x[0, 0] > 0, jnp.cos, jnp.sin, y),
    ),
    "order of a sort": (lambda x, y, z: lax.sort(x, dimension=1), lambda x, y, z: lax.sort(x, dimension=0)),
    "what a reduction does": (lambda x, y, z: x.max(0), lambda x, y, z: x.min(0)),
    "what a scatter does": (lambda x, y, z: x.at[0].add(y[0]), lambda x, y, z: x.at[0].multiply(y[0])),
    "operands of a subtraction": (lambda x, y, z: x - y, lambda x, y, z: y - x),
    "result of several": (lambda x, y, z: lax.top_k(x, 2)[0], lambda x, y, z: lax.top_k(y, 2)[0]),
    "constant array": (
        lambda x, y, z: x * np.arange(12, dtype=np.float32).reshape(SHAPE),
        lambda x, y, z: x * np.arange(1, 13, dtype=np.float32).reshape(SHAPE),
    ),
    "device array": (
        lambda x, y, z: x * jnp.arange(12, dtype=np.float32).reshape(SHAPE),
        lambda x, y, z: x * jnp.arange(1, 13, dtype=np.float32).reshape(SHAPE),
    ),
    "zero of another sign": (lambda x, y, z: x * 0.0, lambda x, y, z: x * -0.0),
    "precision of a product": (
        lambda x, y, z: jnp.matmul(x, y.T, precision="highest"),
        lambda x, y, z: jnp.matmul(x, y.T, precision="default"),
    ),
    "dtype on the way": (lambda x, y, z: (x * 3).astype("float16").astype("float32"), lambda x, y, z: x * 3),
}


@pytest.mark.parametrize("what", ALIKE)
def test_what_only_looks_alike_is_told_apart(what):
    assert not proof_of(*ALIKE[what]).proved
    assert proof_of(ALIKE[what][0], ALIKE[what][0]).proved
