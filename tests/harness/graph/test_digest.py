"""Equal programs have one digest and no others do: held against proofs and against what programs compute."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from harness.graph.digest import digest
from harness.graph.proof import prove
from harness.recorder import lower
from tests.harness.graph.forms import FORMS
from tests.harness.graph.programs import INPUTS, SHAPE, edited, random_program, runnable
from tests.harness.graph.test_proof import INPUT as ROWS
from tests.harness.graph.test_proof import (
    SLIPS,
    WEIGHTS,
    constrained,
    gradient_leaf,
    leaf,
    left_layer,
    lowered,
    program,
    right_layer,
    wrong_layer,
)
from tests.harness.graph.test_soundness import ABSTRACT, ALIKE, counted


def values_of(whole):
    values, _, _ = whole.partition(":")
    return values


@cache
def told(seed):
    """Whether a random program and an edit of it have one digest, and whether they are proved equal."""
    made = random_program(seed)
    one, other = (lower(runnable(each), ABSTRACT) for each in (made, edited(made, seed)))
    proof = prove(one, other)
    return digest(one) == digest(other), proof.proved and not (proof.constraints or proof.barriers)


@pytest.mark.parametrize("seed", range(20))
def test_two_programs_have_one_digest_exactly_if_they_are_proved_equal(seed):
    alike, proved = told(seed)
    assert alike == proved


def test_the_edits_above_are_of_both_kinds():
    assert {told(seed)[0] for seed in range(20)} == {True, False}


@pytest.mark.parametrize("seed", range(6))
def test_order_of_arguments_and_of_statements_does_not_count(seed):
    made = random_program(seed)
    run = runnable(made)
    names = {"0": "2", "1": "0", "2": "1"}
    moved = lower(lambda *inputs: run(inputs[1], inputs[2], inputs[0]), ABSTRACT, inputs=names.__getitem__)
    assert digest(moved) == digest(lower(run, ABSTRACT))
    other = lower(run, ABSTRACT, inputs={"0": "1", "1": "0", "2": "2"}.__getitem__)
    assert (digest(other) == digest(lower(run, ABSTRACT))) == prove(other, lower(run, ABSTRACT)).proved


@pytest.mark.parametrize("rule", FORMS)
def test_two_spellings_that_a_rewrite_brings_together_have_one_digest(rule):
    forms = FORMS[rule]
    abstract = [jax.ShapeDtypeStruct(shape, forms.dtypes[0]) for shape in forms.shapes]
    one, other = lower(forms.one, abstract), lower(forms.other, abstract)
    assert prove(one, other).proved
    assert digest(one) == digest(other)


def test_what_a_set_is_sorted_by_is_told_by_what_it_is_not_by_its_number():
    def sums(first):
        return lambda *parts: jnp.sort(jnp.stack([jnp.sum(jnp.square(part)) for part in (first(parts[0]), *parts[1:])]))

    one, other = (lower(sums(f), ABSTRACT) for f in (lambda x: x, lambda x: x.reshape(12).reshape(SHAPE)))
    assert digest(one) == digest(other)


@pytest.mark.parametrize("what", ALIKE)
def test_what_only_looks_alike_has_another(what):
    one, other = (lower(each, ABSTRACT) for each in ALIKE[what])
    assert digest(one) != digest(other)


def test_a_scanned_stack_is_one_whatever_the_order_of_arguments_and_statements():
    run = program(right_layer)
    right = lower(lambda x, weights: run(weights, x), (ROWS, WEIGHTS), leaf, gradient_leaf)
    left = lowered(left_layer)
    assert digest(left) == digest(right) == digest(lowered(left_layer))
    assert len({digest(each) for each in (left, lowered(wrong_layer))}) == 2


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_in_a_scanned_layer_shows(slip):
    def layer(hidden, weights):
        return SLIPS[slip](hidden, weights)[0].astype("float32"), None

    assert values_of(digest(lowered(layer))) != values_of(digest(lowered(left_layer)))


def test_loops_that_part_late_or_only_in_their_counters_are_parted():
    inner, outer = counted(lambda i, j: 3.0 * i + j), counted(lambda i, j: 3.0 * j + i)
    assert digest(lower(inner, ABSTRACT)) != digest(lower(outer, ABSTRACT))

    def passed_on(last):
        """Five carried values, each taking the next one's: what the last does is seen after five rounds."""

        def step(_, carried):
            _, b, c, d, e = carried
            return b, c, d, e, last(e)

        return lambda x, *_: lax.fori_loop(0, 9, step, (x,) * 5)[0]

    late = [digest(lower(passed_on(last), ABSTRACT)) for last in (jnp.sin, jnp.cos, jnp.sin)]
    assert late[0] == late[2] != late[1]


def test_constraints_and_barriers_are_the_second_part():
    P = jax.sharding.PartitionSpec
    split, again, other, lost = (
        digest(constrained(spec)).split(":") for spec in (P("data"), P("data"), P(None, "data"), None)
    )
    assert split == again
    assert len({split[0], other[0], lost[0]}) == 1
    assert len({split[1], other[1], lost[1]}) == 3


def test_a_rematerialised_function_differs_in_the_second_part_alone():
    def slope(wrap):
        return lambda x, *_: jax.grad(lambda y: wrap(lambda z: jnp.sin(jnp.sin(z)))(y).sum())(x)

    kept, remat = (digest(lower(slope(wrap), ABSTRACT)).split(":") for wrap in (lambda f: f, jax.checkpoint))
    assert kept[0] == remat[0]
    assert kept[1] != remat[1]


def test_names_of_outputs_count_and_dead_code_does_not():
    def dead(x, *_):
        jnp.cos(x).sum()
        return {"a": jnp.sin(x)}

    one = lower(lambda x, *_: {"a": jnp.sin(x)}, ABSTRACT)
    other, same = lower(lambda x, *_: {"b": jnp.sin(x)}, ABSTRACT), lower(dead, ABSTRACT)
    assert digest(one) == digest(same) != digest(other)


def test_a_program_that_holds_what_equals_nothing_has_no_digest():
    def called(x, *_):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(SHAPE, "float32"), x)

    def drawn(x, *_):
        return lax.rng_uniform(np.float32(0), np.float32(1), SHAPE) + x

    assert [digest(lower(each, ABSTRACT)) for each in (called, drawn)] == ["", ""]
    assert len(ABSTRACT) == INPUTS
