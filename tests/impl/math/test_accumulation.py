"""Microbatches take every N-th row."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from impl.math.accumulation import strided
from tests.impl.math.values import draw


@pytest.mark.parametrize("rest", [(), (7,), (7, 5)])
@pytest.mark.parametrize("microbatches", [1, 2, 3, 4, 12])
def test_microbatch_j_takes_rows_j_and_every_nth_after(microbatches, rest):
    batch = draw(3, 12, *rest)
    cut = np.asarray(strided(jnp.asarray(batch), microbatches))
    assert cut.shape == (microbatches, 12 // microbatches, *rest)
    for j, part in enumerate(cut):
        assert np.array_equal(part, batch[j::microbatches])


def test_two_of_three_is_not_contiguous():
    batch = jnp.arange(100, 106)
    assert np.asarray(strided(batch, 2)).tolist() == [[100, 102, 104], [101, 103, 105]]


@pytest.mark.parametrize("microbatches", [5, 24, 0, -3])
def test_refuses_what_does_not_divide(microbatches):
    with pytest.raises(ValueError, match=rf"12 rows cannot be cut into {microbatches} equal microbatches"):
        strided(jnp.asarray(draw(3, 12, 4)), microbatches)
