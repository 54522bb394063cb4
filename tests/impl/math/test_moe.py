"""Routing, dispatch, load balance and the bias update, against loops over tokens in float64."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from impl.math.gates import gate
from impl.math.moe import (
    Experts,
    Router,
    Routing,
    bias_update,
    capacity,
    dense,
    limited,
    load_balance,
    loads,
    probabilities,
    route,
    scaled_experts,
    scaled_routing,
    sparse,
)
from tests.impl.math import oracles
from tests.impl.math.values import EPS, assert_within, draw, wide

NUMBER = 6
ROUTERS = {
    "mixtral": Router(count=2),
    "renormalised": Router(count=3, renormalise=True),
    "softmax scores": Router(count=2, score="softmax", softmax=False, scaling=1.7),
    "sigmoid scores": Router(count=3, score="sigmoid", softmax=False, renormalise=True, scaling=2.5),
    "biased weights": Router(count=3, score="sigmoid", softmax=False, scaling=1.3, biased=True),
    "groups": Router(count=2, score="sigmoid", groups=3, kept=2, softmax=False, renormalise=True),
    "one group of raw logits": Router(count=2, groups=2, kept=1, softmax=False),
}


@pytest.mark.parametrize("router", ROUTERS.values(), ids=ROUTERS)
@pytest.mark.parametrize("biased", [(), (1.5,)], ids=["plain", "biased"])
def test_routing_is_the_formula_token_by_token(router, biased):
    logits = draw(3, 2, 5, NUMBER, spread=2.0)
    biases = tuple(draw(4, NUMBER, spread=spread) for spread in biased)
    found = route(jnp.asarray(logits), biases, router)
    experts, weights, scores = oracles.routed(wide(logits), sum(map(wide, biases), np.zeros(NUMBER)), router)
    np.testing.assert_array_equal(found.experts, experts)
    # A few roundings of exponentials of at most |logit|, and of quotients; raw logits are weights as they are.
    room = 16 * EPS * router.scaling * (1 + np.abs(logits).max())
    assert_within(found.weights, weights, room)
    assert_within(found.scores, scores, room)


def test_a_bias_chooses_and_weighs_nothing():
    logits = jnp.asarray(draw(3, 1, 4, NUMBER))
    router = ROUTERS["sigmoid scores"]
    pushed = route(logits, (jnp.zeros(NUMBER).at[4].set(50.0),), router)
    assert np.all(pushed.experts[..., 0] == 4)
    chosen = jnp.take_along_axis(jax.nn.sigmoid(logits), pushed.experts, axis=-1)
    assert_within(pushed.weights, wide(chosen / chosen.sum(-1, keepdims=True) * 2.5), 8 * EPS)
    slope = jax.grad(lambda bias: jnp.sum(route(logits, (bias,), router).weights ** 2))(jnp.ones(NUMBER))
    assert not np.any(slope)


def test_equal_scores_go_to_the_lower_number():
    logits = jnp.asarray([[[1.0, 3.0, 3.0, 1.0, 3.0, 0.5]]])
    assert route(logits, (), Router(count=4)).experts.tolist() == [[[1, 2, 4, 0]]]


def case():
    x, inputs = draw(5, 2, 5, 7), tuple(draw(seed, NUMBER, 7, 9, spread=0.5) for seed in (6, 7))
    output = draw(8, NUMBER, 9, 7, spread=0.5)
    biases = tuple(draw(seed, NUMBER, 9) for seed in (9, 10)), (draw(11, NUMBER, 7),)
    routing = route(jnp.asarray(draw(12, 2, 5, NUMBER)), (), Router(count=2))
    return x, routing, Experts(inputs, output, *biases)


def gated(found):
    return gate(("silu", "linear"), found)


@pytest.mark.parametrize("dispatch", [dense, sparse])
@pytest.mark.parametrize("biased", [False, True])
def test_dispatch_is_the_sum_over_each_tokens_experts(dispatch, biased):
    x, routing, experts = case()
    experts = experts if biased else Experts(experts.inputs, experts.output)
    expected, size = oracles.mixed_experts(wide(x), routing, experts)
    # Sums over 7, 9 and 2 products, gated in between: 60 roundings of what adds up in magnitude.
    assert_within(jax.jit(dispatch, static_argnums=3)(x, routing, experts, gated), expected, 60 * EPS * size)


def test_dense_and_sparse_and_room_for_all_have_the_same_slopes():
    x, routing, experts = case()

    def loss(dispatch, x, weights, experts):
        return jnp.sum(jnp.sin(dispatch(x, routing._replace(weights=weights), experts, gated)))

    ways = (dense, sparse, partial(limited, taken=x.shape[1]))
    found = (jax.tree.leaves(jax.grad(loss, argnums=(1, 2, 3))(way, x, routing.weights, experts)) for way in ways)
    for left, *others in zip(*found, strict=True):
        assert np.any(left)
        for other in others:
            assert_within(left, wide(other), 200 * EPS * np.abs(left).max())


def test_an_expert_nobody_chooses_is_skipped_and_one_that_all_choose_is_full():
    x, _, experts = case()
    everyone = jnp.broadcast_to(jnp.asarray([4, 1]), (2, 5, 2))
    scores = jnp.zeros((2, 5, NUMBER))
    routing = Routing(everyone, jnp.full((2, 5, 2), 0.5), scores, scores)
    expected, size = oracles.mixed_experts(wide(x), routing, experts)
    assert_within(sparse(jnp.asarray(x), routing, experts, gated), expected, 60 * EPS * size)


def test_a_factor_of_each_expert_counts_once_wherever_it_is_put():
    x, routing, experts = case()
    scale = draw(13, NUMBER, spread=0.3) + np.float32(1)
    late, early = (
        dense(x, scaled_routing(routing, scale), experts, gated),
        dense(x, routing, scaled_experts(experts, scale), gated),
    )
    scaled = routing._replace(weights=wide(routing.weights) * wide(scale)[np.asarray(routing.experts)])
    expected, size = oracles.mixed_experts(wide(x), scaled, experts)
    assert_within(late, expected, 60 * EPS * size)
    assert_within(early, expected, 60 * EPS * size)


@pytest.mark.parametrize("router", [ROUTERS["mixtral"], ROUTERS["sigmoid scores"]])
def test_load_balance_is_the_mean_over_rows_of_load_times_probability(router):
    logits = draw(14, 3, 5, NUMBER, spread=2.0)
    routing = route(jnp.asarray(logits), (), router)
    likely = probabilities(jnp.asarray(logits), routing, router)
    expected = oracles.load_balance(wide(logits), np.asarray(routing.experts), router.score, 0.3)
    assert expected > 0.3
    assert_within(load_balance(routing.experts, likely, 0.3), expected, 16 * EPS * expected)
    even = jnp.arange(NUMBER).reshape(1, 3, 2)
    assert float(load_balance(even, jnp.full((1, 3, NUMBER), 1 / NUMBER), 0.3)) == pytest.approx(2 * 0.3)


def test_loads_count_and_biases_move_towards_their_mean():
    experts = jnp.asarray([[[0, 1], [0, 2], [0, 1]], [[0, 5], [5, 1], [4, 0]]])
    found = loads(experts, NUMBER)
    assert found.tolist() == [5, 3, 1, 0, 1, 2]
    assert bias_update(found, 0.25).tolist() == [-0.25, -0.25, 0.25, 0.25, 0.25, 0.0]
    two = bias_update(jnp.stack([found, jnp.full(NUMBER, 7.0)]), 0.25)
    assert two[1].tolist() == [0.0] * NUMBER


@pytest.mark.parametrize("taken", [1, 2, 5])
def test_who_comes_first_is_taken_and_who_is_late_adds_nothing(taken):
    x, routing, experts = case()
    kept = oracles.in_time(np.asarray(routing.experts), taken)
    assert (kept.all(), kept.mean() > 0) == (taken == 5, True)
    expected, size = oracles.mixed_experts(wide(x), routing._replace(weights=wide(routing.weights) * kept), experts)
    found = jax.jit(limited, static_argnums=(3, 4))(x, routing, experts, gated, taken)
    assert_within(found, expected, 60 * EPS * size)


def test_what_comes_too_late_has_no_slope():
    x, routing, experts = case()
    slope = jax.grad(lambda weights: jnp.sum(limited(x, routing._replace(weights=weights), experts, gated, 1)))
    np.testing.assert_array_equal(slope(routing.weights) != 0, oracles.in_time(np.asarray(routing.experts), 1) != 0)


@pytest.mark.parametrize(("factor", "expected"), [(1.0, 8), (1.25, 10), (0.9, 7), (0.01, 1), (3.0, 24), (50.0, 24)])
def test_capacity_is_so_many_even_shares_rounded_down(factor, expected):
    assert capacity(24, Router(count=2), NUMBER, factor) == expected
