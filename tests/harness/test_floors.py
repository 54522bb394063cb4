"""How far noise is measured: no run more than the answer needs, and every way where no way tells."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from harness.verdict import Rung
from tests.harness.test_oracle import divided, multiplied, normed, verdict_of


def counting(function, seen):
    """`function`, which writes down the weights it was called with and whether it was compiled."""

    def act(w, x):
        seen.append((str(w.dtype), "eager" if jax.config.jax_disable_jit else "compiled"))
        return function(w, x)

    return act


def test_no_more_runs_are_made_than_the_answer_needs():
    seen = []
    assert verdict_of(counting(normed(divided), seen), normed(multiplied)).rung is Rung.WITHIN_NOISE
    assert seen == [("float32", "compiled"), ("float64", "compiled")]


def test_a_side_that_errs_by_more_is_held_against_itself_in_every_way():
    """Compiled it errs by 300 units in the last place, and only its run that is not compiled shows that it may."""
    seen = []

    def coarse(x, mean):
        share = 0.0 if jax.config.jax_disable_jit else 300.0
        return divided(x, mean) * (1.0 + share * jnp.finfo(x.dtype).eps)

    verdict = verdict_of(normed(divided), counting(normed(coarse), seen))
    assert verdict.rung is Rung.WITHIN_NOISE
    assert verdict.noise[0].floor_of == "each side and itself compiled and not"
    assert [how for _, how in seen] == ["compiled"] * 4 + ["eager"]


def test_an_error_that_no_run_of_its_own_explains_is_not_noise():
    def coarse(x, mean):
        return divided(x, mean) * (1.0 + 300.0 * jnp.finfo(x.dtype).eps)

    verdict = verdict_of(normed(divided), normed(coarse))
    assert (verdict.rung, verdict.noise[0].floor_of) == (Rung.DIVERGED, "each side and itself compiled and not")
