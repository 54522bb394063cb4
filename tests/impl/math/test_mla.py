"""Latent attention around its projections: what stays, turns, is shared; the whole of it against its oracle."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from impl.math.attention import attend
from impl.math.masks import training_mask
from impl.math.mla import compressed, expanded, magnitude, placed, softmax_scale
from impl.math.rope import Frequencies, rotate
from impl.params import layer_parameters
from impl.tiny import family
from tests.impl.math import latent_oracle, oracles
from tests.impl.math.values import EPS, assert_within, draw, wide

TURNING = Frequencies("yarn", 6, factor=40.0, original_length=64)
POSITIONS = np.array([[0, 1, 2, 0, 1, 2, 3], [94, 95, 17, 40, 41, 5, 0]], np.int32)
SEGMENTS = np.array([[1, 1, 1, 2, 2, 2, 2], [3, 3, 5, 5, 5, 0, 0]], np.int32)


def test_only_the_last_coordinates_of_a_query_turn():
    query = draw(3, 2, 7, 4, 11)
    result = jax.jit(placed, static_argnums=2)(query, POSITIONS, TURNING)
    assert (result.shape, result.dtype) == (query.shape, jnp.float32)
    np.testing.assert_array_equal(result[..., :5], query[..., :5])
    radians = oracles.yarn_radians(6, 10_000, 40.0, 64, (32.0, 1.0), True)
    tail = wide(query[..., 5:])
    turned = np.concatenate(oracles.turn(tail[..., 0::2], tail[..., 1::2], POSITIONS, radians), axis=-1)
    # An angle of up to 95 is off by two roundings of it, sine and cosine by one of 1; two products and their sum.
    assert_within(result[..., 5:], turned, EPS * (2 * 95 + 4) * np.abs(tail).max())
    assert np.abs(turned - tail).max() > 1.0


def test_one_projection_is_split_into_the_latent_and_the_shared_part():
    projected = draw(5, 2, 7, 9 + 6)
    latent, shared = compressed(projected, POSITIONS, TURNING)
    np.testing.assert_array_equal(latent, projected[..., :9])
    assert shared.shape == (2, 7, 1, 6)
    np.testing.assert_array_equal(shared, rotate(projected[:, :, None, 9:], POSITIONS, TURNING))


def test_every_head_has_its_own_key_and_value_and_the_same_end():
    projected, shared = draw(7, 2, 8, 4, 5 + 7), draw(9, 2, 8, 1, 6)
    key, value = expanded(projected, shared, 5)
    np.testing.assert_array_equal(key[..., :5], projected[..., :5])
    np.testing.assert_array_equal(value, projected[..., 5:])
    for head in range(4):
        np.testing.assert_array_equal(key[:, :, head, 5:], shared[:, :, 0])


def test_values_may_be_of_another_width_than_keys():
    query, key, value = draw(1, 2, 7, 4, 11), draw(2, 2, 7, 4, 11), draw(3, 2, 7, 4, 8)
    mask = oracles.training_mask(SEGMENTS, -1)
    padded = np.pad(wide(value), ((0, 0), (0, 0), (0, 0), (0, 3)))
    expected = oracles.attend(wide(query), wide(key), padded, mask)[..., :8]
    terms = 11 * np.abs(query).max() * np.abs(key).max()
    bound = EPS / 2 * (2 * 11 * terms + 2 * 7 + 8) * np.abs(value).max()
    assert_within(attend(query, key, value, mask), expected, bound)


def test_a_stretched_model_attends_more_sharply():
    # DeepSeek-V2-Lite: 0.1 * 0.707 * ln 40 + 1 = 1.2608037774, and 192**-0.5 = 0.0721687836.
    assert magnitude(0.707, 40.0, 163_840, 4096) == pytest.approx(1.2608037774, abs=1e-9)
    assert softmax_scale(192, 1.2608037774) == pytest.approx(0.1147213868, abs=1e-9)
    assert magnitude(0.707, 40.0, 4096, 4096) == 1.0
    assert softmax_scale(192, 1.0) == pytest.approx(0.0721687836, abs=1e-9)
    given = (0.707, 40.0, 2560, 64)
    assert softmax_scale(17, magnitude(*given)) == pytest.approx(latent_oracle.sharpness(17, *given), rel=1e-14)


@pytest.mark.parametrize("call", [placed, compressed])
def test_something_must_not_turn(call):
    with pytest.raises(ValueError, match="6 coordinates turn, of 6: some must be left that do not"):
        call(draw(1, 2, 7, *((4,) if call is placed else ()), 6), POSITIONS, TURNING)


def attention(config, weights, x):
    """The formula with plain products, in the dtype of what is given: what both sides put around `impl.math.mla`."""
    rope, epsilon = config.rope_of("dense"), config.normalization_layer_epsilon

    def normed(latent, name):
        mean = jnp.mean(latent**2, axis=-1, keepdims=True)
        return latent / jnp.sqrt(mean + epsilon) * weights[f"{name}/scale"]

    if config.q_lora_rank:
        query = jnp.einsum("btc,chd->bthd", normed(x @ weights["wq_a/kernel"], "q_norm"), weights["wq_b/kernel"])
    else:
        query = jnp.einsum("bte,ehd->bthd", x, weights["query/kernel"])
    latent, shared = compressed(x @ weights["wkv_a/kernel"], POSITIONS, rope)
    up = jnp.einsum("btc,chd->bthd", normed(latent, "kv_norm"), weights["wkv_b/kernel"])
    key, value = expanded(up, shared, config.qk_nope_head_dim)
    mixed = attend(placed(query, POSITIONS, rope) * config.query_scale, key, value, training_mask(SEGMENTS))
    return jnp.einsum("bthd,hde->bte", mixed, weights["out/kernel"])


@pytest.mark.parametrize("name", ["deepseek_mla", "deepseek_mla_lora"])
def test_the_whole_is_the_formula_in_float64(name):
    config = family(name)
    rows = {row.name: row for row in layer_parameters(config, "dense") if row.name.startswith("self_attention/")}
    weights = {
        row.name.removeprefix("self_attention/"): wide(draw(at, *row.shape, spread=0.4))
        for at, row in enumerate(rows.values())
    }
    x = wide(draw(41, 2, 7, config.emb_dim))
    expected = latent_oracle.latent_attention(weights, x, POSITIONS, SEGMENTS, config)
    with jax.enable_x64(True):
        found = np.asarray(attention(config, {leaf: jnp.asarray(w) for leaf, w in weights.items()}, jnp.asarray(x)))
    assert found.dtype == np.float64
    # Float64 throughout: a thousand roundings of the largest entry, where a slip in the formula is of its own size.
    assert_within(found, expected, 1000 * 2.0**-52 * np.abs(expected).max())
