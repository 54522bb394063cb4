"""Mixtures of experts: which experts a token goes to, how much each counts, and what keeps them evenly loaded.

N experts, of which each token takes J; G groups of N/G experts; M inside an expert; otherwise the letters of
`impl.math`. Routing is computed in float32 whatever the layer computes in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from impl.math.precision import full

__all__ = [
    "Experts",
    "Router",
    "Routing",
    "Score",
    "bias_update",
    "capacity",
    "dense",
    "limited",
    "load_balance",
    "loads",
    "probabilities",
    "route",
    "scaled_experts",
    "scaled_routing",
    "sparse",
]

Score = Literal["", "softmax", "sigmoid"]


@dataclass(frozen=True, kw_only=True)
class Router:
    """How tokens are routed. count: J. score: what turns logits into scores; "" leaves them as they are.

    groups, kept: the number of groups, and how many of them a token may take experts from; 0 groups bound nothing.
    softmax: the chosen scores become weights by a softmax over them; else they are the weights. renormalise: weights
    are divided by their sum. scaling multiplies them last. biased: the bias is in the weights too.
    """

    count: int
    score: Score = ""
    groups: int = 0
    kept: int = 0
    softmax: bool = True
    renormalise: bool = False
    scaling: float = 1.0
    biased: bool = False


class Routing(NamedTuple):
    """experts int [B, T, J], best first, of equal ones the lower number; weights [B, T, J]; scores [B, T, N].

    ranked [B, T, N]: the scores with the bias, by which experts were chosen, groups left aside.
    """

    experts: jax.Array
    weights: jax.Array
    scores: jax.Array
    ranked: jax.Array


def route(logits: jax.Array, biases: tuple[jax.Array, ...], router: Router) -> Routing:
    """Logits [B, T, N] and a bias [N] or none -> who goes where. The bias decides who is chosen; it is in no weight,
    unless the router is `biased`.

    A group is as good as its two best experts together. Sources: arXiv 2401.04088 (softmax over the chosen), 2412.19437
    (sigmoid scores, biased choice, groups, scaling).
    """
    scores = _scored(logits.astype(full()), router.score)
    ranked = scores
    for bias in biases:
        ranked = ranked + bias.astype(full())
    eligible = jnp.where(_open(ranked, router), ranked, -jnp.inf) if router.groups else ranked
    experts = jax.lax.top_k(eligible, router.count)[1]
    weights = jnp.take_along_axis(ranked if router.biased else scores, experts, axis=-1)
    if router.softmax:
        weights = jax.nn.softmax(weights, axis=-1)
    if router.renormalise:
        weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
    return Routing(experts, weights * router.scaling if router.scaling != 1.0 else weights, scores, ranked)


def _scored(logits: jax.Array, score: Score) -> jax.Array:
    if score == "sigmoid":
        return jax.nn.sigmoid(logits)
    return jax.nn.softmax(logits, axis=-1) if score == "softmax" else logits


def _open(ranked: jax.Array, router: Router) -> jax.Array:
    """Whether each expert [B, T, N] is in one of the groups that its token may choose from."""
    size = ranked.shape[-1] // router.groups
    grouped = ranked.reshape(*ranked.shape[:-1], router.groups, size)
    worth = jnp.sum(jax.lax.top_k(grouped, min(2, size))[0], axis=-1)
    best = jax.lax.top_k(worth, router.kept)[1]
    taken = jnp.any(best[..., None] == jnp.arange(router.groups), axis=-2)
    return jnp.repeat(taken, size, axis=-1)


def probabilities(logits: jax.Array, routing: Routing, router: Router) -> jax.Array:
    """How likely each expert [B, T, N] is by itself: a softmax of the logits, or sigmoid scores over their sum."""
    if router.score == "sigmoid":
        return routing.scores / jnp.sum(routing.scores, axis=-1, keepdims=True)
    return jax.nn.softmax(logits.astype(full()), axis=-1)


def load_balance(experts: jax.Array, probabilities: jax.Array, weight: float) -> jax.Array:
    """The load-balance loss, (): `weight` times N times the sum, over experts, of load times probability.

    experts int [B, T, J], probabilities [B, T, N]. Load is the part of a row's tokens that go to an expert, so that the
    loads of a row add up to J; probability is the row's mean. The mean over rows counts; all positions count, padding
    too. Source: arXiv 2101.03961, equation 4, a row at a time.
    """
    number = probabilities.shape[-1]
    load = jnp.mean(jnp.sum(_picked(experts, number), axis=2), axis=1)
    return jnp.mean(load * jnp.mean(probabilities, axis=1)) * (number * number * weight)


def loads(experts: jax.Array, number: int) -> jax.Array:
    """How many tokens go to each expert, float32 [N]. Loads of microbatches add up."""
    return jnp.sum(_picked(experts, number), axis=(0, 1, 2))


def bias_update(loads: jax.Array, rate: float) -> jax.Array:
    """What is added to routing biases [..., N]: `rate` where an expert has less than the mean load, -`rate` where more.

    Source: arXiv 2408.15664, algorithm 1.
    """
    return jnp.sign(jnp.mean(loads, axis=-1, keepdims=True) - loads) * rate


def _picked(experts: jax.Array, number: int) -> jax.Array:
    return jax.nn.one_hot(experts, number, dtype=full())


class Experts(NamedTuple):
    """Kernels of all experts: inputs, one [N, E, M] for each activation; output [N, M, E]; their biases [N, M], [N, E].

    No biases: empty, and () in place of the output's.
    """

    inputs: tuple[jax.Array, ...]
    output: jax.Array
    input_biases: tuple[jax.Array, ...] = ()
    output_bias: tuple[jax.Array, ...] = ()


def scaled_routing(routing: Routing, scale: jax.Array) -> Routing:
    """The weights times the factor [N] of the expert that each belongs to."""
    return routing._replace(weights=routing.weights * scale.astype(full())[routing.experts])


def scaled_experts(experts: Experts, scale: jax.Array) -> Experts:
    """The output kernels and biases times their expert's factor [N]: what `scaled_routing` does, done beforehand."""
    factor = scale.astype(experts.output.dtype)
    biases = tuple(bias * factor[:, None] for bias in experts.output_bias)
    return experts._replace(output=experts.output * factor[:, None, None], output_bias=biases)


Gate = Callable[[tuple[jax.Array, ...]], jax.Array]
"""Projections [..., M] -> hidden [..., M]."""


def dense(x: jax.Array, routing: Routing, experts: Experts, gate: Gate) -> jax.Array:
    """Every expert on every token, those not chosen counted 0 times: x [B, T, E] -> [B, T, E]."""
    found = [jnp.einsum("bte,nem->btnm", x, kernel) for kernel in experts.inputs]
    for index, bias in enumerate(experts.input_biases):
        found[index] = found[index] + bias
    made = jnp.einsum("btnm,nme->btne", gate(tuple(found)), experts.output)
    for bias in experts.output_bias:
        made = made + bias
    picked = _picked(routing.experts, experts.output.shape[0])
    shares = jnp.sum(picked * routing.weights[..., None], axis=2)
    return jnp.einsum("btne,btn->bte", made.astype(full()), shares).astype(x.dtype)


def sparse(x: jax.Array, routing: Routing, experts: Experts, gate: Gate) -> jax.Array:
    """Each token through its own experts alone, sorted by expert: x [B, T, E] -> [B, T, E]. Nothing is dropped."""
    chosen = routing.experts.reshape(-1)
    order = jnp.argsort(chosen, stable=True)
    at, number = chosen[order], experts.output.shape[0]
    sizes = jnp.sum(chosen[:, None] == jnp.arange(number), axis=0, dtype=jnp.int32)
    tokens = x.reshape(-1, x.shape[-1])[order // routing.experts.shape[-1]]
    found = [jax.lax.ragged_dot(tokens, kernel, sizes) for kernel in experts.inputs]
    for index, bias in enumerate(experts.input_biases):
        found[index] = found[index] + bias[at]
    made = jax.lax.ragged_dot(gate(tuple(found)), experts.output, sizes)
    for bias in experts.output_bias:
        made = made + bias[at]
    back = made[jnp.argsort(order)].reshape(*routing.experts.shape, -1).astype(full())
    return jnp.sum(back * routing.weights[..., None], axis=2).astype(x.dtype)


def capacity(length: int, router: Router, number: int, factor: float) -> int:
    """How many tokens of a row of `length` an expert takes: `factor` times its even share of choices, rounded down.

    At least 1, and never more than there are. Source: arXiv 2006.16668, 2.2.
    """
    return min(max(int(length * router.count / number * factor), 1), length)


def limited(x: jax.Array, routing: Routing, experts: Experts, gate: Gate, taken: int) -> jax.Array:
    """Each expert on the first `taken` tokens of each row that choose it, no more: x [B, T, E] -> [B, T, E].

    Tokens queue in their order, one token's choices best first. A choice that comes too late adds nothing, and the
    weights of the others stay as they are.
    """
    rows, length, count = routing.experts.shape
    number = experts.output.shape[0]
    chosen = jax.nn.one_hot(routing.experts.reshape(rows, length * count), number, dtype=jnp.int32)
    queue = jnp.where(chosen, jnp.cumsum(chosen, axis=1) - 1, taken)
    seats = jax.nn.one_hot(queue, taken, dtype=full()).reshape(rows, length, count, number, taken)
    shares = jnp.einsum("btjns,btj->btns", seats, routing.weights.astype(full()))
    tokens = jnp.einsum("btns,bte->nbse", jnp.sum(seats, axis=2).astype(x.dtype), x)
    found = [jnp.einsum("nbse,nem->nbsm", tokens, kernel) for kernel in experts.inputs]
    for index, bias in enumerate(experts.input_biases):
        found[index] = found[index] + bias[:, None, None]
    made = jnp.einsum("nbsm,nme->nbse", gate(tuple(found)), experts.output)
    for bias in experts.output_bias:
        made = made + bias[:, None, None]
    return jnp.einsum("nbse,btns->bte", made.astype(full()), shares).astype(x.dtype)
