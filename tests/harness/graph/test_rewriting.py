"""Every rewrite on its list keeps every bit, is what brings its two forms together, and is used by that alone."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from harness.graph import rewriting
from harness.graph.proof import prove
from harness.graph.rewriting import RULES
from harness.recorder import lower
from tests.harness.graph.forms import FORMS, drawn

CASES = [(name, dtype) for name, forms in FORMS.items() for dtype in forms.dtypes]


def test_every_rewrite_has_two_forms_and_no_other_has():
    assert sorted(FORMS) == sorted(RULES)


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_both_forms_give_the_same_bits_on_random_values(name, dtype):
    forms = FORMS[name]
    for seed in range(8):
        values = drawn(forms.shapes, dtype, seed)
        one, other = (np.asarray(jax.jit(each)(*values)) for each in (forms.one, forms.other))
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes(), (one, other)


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_both_forms_are_proved_equal_with_that_rewrite(name, dtype):
    forms = FORMS[name]
    arguments = [jax.ShapeDtypeStruct(shape, dtype) for shape in forms.shapes]
    proof = prove(lower(forms.one, arguments), lower(forms.other, arguments))
    assert proof.proved
    assert proof.rewrites.get(name, 0) > 0


@pytest.mark.parametrize("name", FORMS)
def test_without_the_rewrite_the_two_forms_are_not_proved_equal(name, monkeypatch):
    for operation in RULES[name][0]:
        kept = [entry for entry in rewriting._BY_OPERATION[operation] if entry[0] != name]
        monkeypatch.setitem(rewriting._BY_OPERATION, operation, kept)
    forms = FORMS[name]
    arguments = [jax.ShapeDtypeStruct(shape, forms.dtypes[0]) for shape in forms.shapes]
    assert not prove(lower(forms.one, arguments), lower(forms.other, arguments)).proved


def test_a_division_by_another_number_is_no_product():
    arguments = [jax.ShapeDtypeStruct((3, 5), "float32")]
    proof = prove(lower(lambda x: x / 3, arguments), lower(lambda x: x * (1 / 3), arguments))
    assert not proof.proved
