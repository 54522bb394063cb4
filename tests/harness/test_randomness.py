"""One side's keys on both: dropout is compared to the bit, and a stream that stands still cannot be paired."""

from __future__ import annotations

from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from harness.judge import NotHeld
from harness.pair import Pair, Side
from harness.randomness import Draws, Place, paired, recorded, replayed
from harness.verdict import Rung
from harness.verify import judged
from tests.harness.fabricate import generic
from tests.harness.tiny_pairs import case_of

LAYERS, ROWS, WIDTH, STEPS = 3, 5, 11, 2


class LinenBlock(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        x = jnp.tanh(x * self.param("w", nn.initializers.normal(), (WIDTH,)))
        return nn.Dropout(0.4, deterministic=False)(x), None


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        stack = nn.scan(
            nn.remat(LinenBlock, prevent_cse=False),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            length=LAYERS,
        )
        return stack(name="stack")(x, None)[0]


class NnxBlock(nnx.Module):
    def __init__(self, rngs, width=WIDTH):
        self.w = nnx.Param(jnp.zeros(width))
        self.dropout = nnx.Dropout(0.4, rngs=rngs)

    def __call__(self, x):
        return self.dropout(jnp.tanh(x * self.w[...]))


def linen(case, _run):
    def loss(params, x, key):
        return jnp.sum(LinenNet().apply({"params": {"stack": params}}, x, rngs={"dropout": key}) ** 2)

    step = jax.jit(jax.value_and_grad(loss))
    return collected(lambda number: step({"w": case.weights["w"]}, case.inputs["x"], jax.random.key(number)))


def nnx_side(forgets=False, shares=False):
    """forgets: the stream's count is thrown away. shares: all layers draw with one key."""

    def run(case, _run):
        @nnx.vmap(in_axes=0, out_axes=0)
        def build(rngs):
            return NnxBlock(rngs)

        streams = nnx.Rngs(dropout=1)
        model = build(streams.split(LAYERS) if hasattr(streams, "split") else streams.fork(split=LAYERS))
        model.w[...] = jnp.asarray(case.weights["w"])
        if shares:
            model.dropout.rngs.key[...] = jnp.broadcast_to(model.dropout.rngs.key[...][:1], (LAYERS,))
        graphdef, params, rest = nnx.split(model, nnx.Param, ...)

        def loss(params, rest, x):
            def body(x, layer):
                block = nnx.merge(graphdef, *layer)
                x = block(x)
                return x, nnx.split(block, nnx.Param, ...)[2]

            x, rest = jax.lax.scan(jax.checkpoint(body, prevent_cse=False), x, (params, rest))
            return jnp.sum(x**2), rest

        step = jax.jit(jax.value_and_grad(loss, has_aux=True))

        def once(_number):
            nonlocal rest
            (value, after), grads = step(params, rest, case.inputs["x"])
            rest = rest if forgets else after
            return value, {"w": grads["w"][...]}

        return collected(once)

    return run


def collected(once):
    loss, gradients = {}, {}
    for number in range(STEPS):
        loss[f"step{number}"], found = once(number)
        gradients[f"step{number}/w"] = found["w"]
    return {"loss": loss, "gradients": gradients}


def verdict_of(right, draws="replayed"):
    sides = [
        Side(name=name, frameworks=frozenset(), programs={"act": program})
        for name, program in (("linen", linen), ("nnx", right))
    ]
    inputs = {"x": generic((ROWS, WIDTH))}
    pair = Pair(
        name="p",
        sides={each.name: each for each in sides},
        prepare=lambda settings, seed: ({"w": generic((LAYERS, WIDTH), seed=3)}, inputs),
    )
    case = replace(case_of(pair, "act"), draws=draws)
    return judged(pair, case, lambda *_: NotHeld(because="a test needs none"))[0]


def test_masks_are_equal_under_scan_and_remat_with_one_sides_keys():
    verdict = verdict_of(nnx_side())
    assert (verdict.rung, verdict.parity.compared) == (Rung.BITWISE, 2 * STEPS + 1)
    assert verdict_of(nnx_side(), draws="own").rung is Rung.DIVERGED


@pytest.mark.parametrize(
    ("fault", "keys"), [({"forgets": True}, LAYERS), ({"shares": True}, STEPS)], ids=["forgets", "shares"]
)
def test_a_stream_that_repeats_itself_cannot_be_paired(fault, keys):
    verdict = verdict_of(nnx_side(**fault))
    assert verdict.rung is Rung.DIVERGED
    assert verdict.first.reason == "claim"
    assert f"bernoulli draws with {LAYERS * STEPS} keys at" in verdict.first.name
    assert f"bernoulli draws with {keys} keys at test_randomness.py:" in verdict.first.name


def test_every_distribution_is_watched_and_put_back():
    before = jax.random.bernoulli, jax.random.normal
    with recorded() as draws:
        jax.jit(lambda key: jax.random.normal(key, (3,)))(jax.random.key(3))
        jax.random.uniform(jax.random.PRNGKey(4), (2,))
    assert (jax.random.bernoulli, jax.random.normal) == before
    assert [(place.what, len(place.keys)) for place in draws.ran] == [("normal", 1), ("uniform", 1)]
    assert [list(place.keys) for place in draws.ran] == [
        [np.asarray(jax.random.key_data(jax.random.key(seed))).tobytes()] for seed in (3, 4)
    ]


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey])
def test_keys_are_exchanged_one_by_one_and_others_left(make):
    def bits(seed):
        return np.asarray(jax.random.key_data(jax.random.key(seed))).tobytes()

    def draw(seed):
        return np.asarray(jax.jit(jax.random.normal, static_argnums=1)(make(seed), (4,)))

    expected = draw(8), draw(5)
    with replayed({bits(3): bits(8), bits(4): bits(9)}):
        found = [np.asarray(jax.random.normal(make(seed), (4,))) for seed in (3, 5)]
    np.testing.assert_array_equal(found, expected)


def place(what, *keys):
    return Place(what=what, where="a.py:1", keys=dict.fromkeys(keys))


@pytest.mark.parametrize(
    ("left", "right", "said"),
    [
        ([], [place("normal", b"1")], "0 places draw on one side and 1"),
        ([place("normal", b"1")], [place("bernoulli", b"1")], "normal draws with 1 keys at a.py:1 on one side"),
        ([place("normal", b"1"), place("t", b"2")], [place("normal", b"3")], "2 places draw on one side, 1 on the"),
        ([place("t", b"1"), place("t", b"2")], [place("t", b"3"), place("t", b"3")], "one key at two places"),
    ],
)
def test_draws_that_do_not_match_are_told(left, right, said):
    assert said in paired(Draws(places=left), Draws(places=right))


def test_places_that_never_ran_do_not_count():
    left, right = Draws(places=[place("t"), place("t", b"1", b"2")]), Draws(places=[place("t", b"4", b"3"), place("t")])
    assert paired(left, right) == {b"4": b"1", b"3": b"2"}
