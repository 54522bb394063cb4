"""In an oracle's run a cast keeps float64; outside of it, and for 8 bits, nothing is changed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from harness.uncast import uncast
from tests.harness.fabricate import generic


def casting(x):
    return jax.nn.softmax(x.astype(jnp.float32)).astype(jnp.bfloat16).astype(x.dtype)


def carried(x):
    """Starts from zeros of a dtype that is written down."""
    return jax.lax.scan(lambda total, row: (total + row, None), jnp.zeros(x.shape[1:], jnp.float32), x)[0]


def product(x):
    return jnp.einsum("ij,kj->ik", x, x, preferred_element_type=jnp.float32)


@pytest.mark.parametrize("function", [casting, carried, product])
def test_what_is_written_as_float32_is_computed_in_float64(function):
    x = generic((5, 7)).astype(np.float64)
    exact = {casting: lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True), carried: lambda x: x.sum(0)}
    with jax.enable_x64(True), uncast():
        found = np.asarray(jax.jit(function)(x))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, exact.get(function, lambda x: x @ x.T)(x), rtol=1e-13, atol=1e-13)


def test_nothing_stays_when_it_is_left():
    x = generic((5, 7)).astype(np.float64)
    before = np.asarray(jax.jit(casting)(x.astype(np.float32)))
    with jax.enable_x64(True):
        with pytest.raises(ZeroDivisionError), uncast():
            raise ZeroDivisionError
        narrow = np.asarray(jax.jit(casting)(x))
    assert narrow.dtype == np.float64
    assert np.array_equal(narrow, narrow.astype(jnp.bfloat16))
    assert np.array_equal(before, np.asarray(jax.jit(casting)(x.astype(np.float32))))


def test_eight_bits_are_meant():
    x = generic((5, 7)).astype(np.float64)
    with jax.enable_x64(True), uncast():
        found = np.asarray(jax.jit(lambda x: x.astype(jnp.float8_e4m3fn).astype(jnp.float64))(x))
    assert np.array_equal(found, x.astype(jnp.float8_e4m3fn).astype(np.float64))


def test_one_key_draws_the_same_numbers():
    def draw(key):
        return jax.random.bernoulli(key, 0.3, (50,)), jax.random.normal(key, (50,))

    mask, noise = jax.jit(draw)(jax.random.key(3))
    with jax.enable_x64(True), uncast():
        again, wide = (np.asarray(value) for value in jax.jit(draw)(jax.random.key(3)))
    assert np.array_equal(mask, again)
    assert wide.dtype == np.float64
    assert np.array_equal(noise, wide.astype(np.float32))


def test_a_loop_that_is_wrong_says_so():
    with jax.enable_x64(True), uncast(), pytest.raises(TypeError):
        jax.lax.scan(lambda total, row: (total[None] + row, None), jnp.zeros(7, jnp.float32), jnp.ones((5, 7)))
