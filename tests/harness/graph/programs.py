"""Random programs as data, to be run, lowered and edited: each instruction takes earlier values and gives a new one."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["INPUTS", "SHAPE", "Instruction", "edited", "random_program", "runnable"]

SHAPE, INPUTS = (3, 4), 3


class Instruction(NamedTuple):
    """verb: a key of VERBS. of: numbers of earlier values. constant: a number that it uses, if the verb uses one."""

    verb: str
    of: tuple[int, int]
    constant: float


Values = list[jax.Array]
Verb = Callable[[jax.Array, jax.Array, float], jax.Array]


def _loop(x: jax.Array, y: jax.Array, c: float) -> jax.Array:
    def body(carry: tuple[jax.Array, jax.Array], row: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        kept, summed = carry
        return (jnp.sin(kept) * c, summed + row), kept - row

    (kept, summed), rows = lax.scan(body, (x[0], y[0]), y)
    return rows + kept - summed


def _nested(x: jax.Array, y: jax.Array, c: float) -> jax.Array:
    def outer(i: jax.Array, total: jax.Array) -> jax.Array:
        return lax.fori_loop(0, 3, lambda j, part: part * 0.5 + (2.0 * i + j) * y, total - c)

    return lax.fori_loop(0, 2, outer, x)


def _branch(x: jax.Array, y: jax.Array, c: float) -> jax.Array:
    return lax.cond(x[0, 0] > c, lambda a, b: jnp.sin(a) - b, lambda a, b: b * c, x, y)


VERBS: dict[str, Verb] = {
    "add": lambda x, y, c: x + y,
    "subtract": lambda x, y, c: x - y,
    "multiply": lambda x, y, c: x * y,
    "maximum": lambda x, y, c: jnp.maximum(x, y),
    "scale": lambda x, y, c: x * c,
    "shift": lambda x, y, c: x + c,
    "divide": lambda x, y, c: x / (1.0 + y * y),
    "sine": lambda x, y, c: jnp.sin(x),
    "tanh": lambda x, y, c: jnp.tanh(x),
    "first sum": lambda x, y, c: x + y.sum(0),
    "second sum": lambda x, y, c: x + y.sum(1, keepdims=True),
    "greatest": lambda x, y, c: x - y.max(1, keepdims=True),
    "product": lambda x, y, c: (x @ y.T) @ x,
    "other product": lambda x, y, c: (y @ x.T) @ x,
    "reversed": lambda x, y, c: x[::-1] + y,
    "rolled": lambda x, y, c: jnp.roll(x, 1, 1) + y,
    "sorted": lambda x, y, c: jnp.sort(x, 1) + y,
    "chosen": lambda x, y, c: jnp.where(x > c, x, y),
    "rounded": lambda x, y, c: x.astype(jnp.bfloat16).astype(jnp.float32) + y,
    "scattered": lambda x, y, c: x.at[jnp.array([0, 2])].add(y[:2]),
    "replaced": lambda x, y, c: x.at[jnp.array([0, 2])].set(y[:2]),
    "kept from remat": lambda x, y, c: jax.checkpoint(lambda a: jnp.sin(a) * c)(x) + y,
    "loop": _loop,
    "nested loops": _nested,
    "branch": _branch,
}


def random_program(seed: int, length: int = 7) -> list[Instruction]:
    """`length` random instructions on INPUTS inputs of SHAPE."""
    random = np.random.default_rng([seed, 9])
    verbs = list(VERBS)
    return [_instruction(random, verbs, INPUTS + at) for at in range(length)]


def _instruction(random: np.random.Generator, verbs: list[str], known: int) -> Instruction:
    of = int(random.integers(known)), int(random.integers(known))
    return Instruction(str(random.choice(verbs)), of, float(np.float32(random.normal())))


def edited(program: list[Instruction], seed: int) -> list[Instruction]:
    """`program` with one instruction changed: its verb, its operands, their order, or its constant."""
    random = np.random.default_rng([seed, 11])
    at = int(random.integers(len(program)))
    old = program[at]
    fresh = _instruction(random, [verb for verb in VERBS if verb != old.verb], INPUTS + at)
    changed = (
        old._replace(verb=fresh.verb),
        old._replace(of=fresh.of),
        old._replace(of=old.of[::-1]),
        old._replace(constant=fresh.constant),
    )[int(random.integers(4))]
    return [*program[:at], changed, *program[at + 1 :]]


def runnable(program: list[Instruction]) -> Callable[..., dict[str, jax.Array]]:
    """The program as a function of its inputs: a value that rests on every instruction, and its gradients."""

    def value(*inputs: jax.Array) -> jax.Array:
        values: Values = list(inputs)
        for verb, (first, second), constant in program:
            values.append(VERBS[verb](values[first], values[second], constant))
        return jnp.tanh(sum(values[INPUTS:]))

    def run(*inputs: jax.Array) -> dict[str, jax.Array]:
        grads = jax.grad(lambda *each: value(*each).sum(), argnums=tuple(range(INPUTS)))(*inputs)
        return {"value": value(*inputs), **{f"grad{index}": grad for index, grad in enumerate(grads)}}

    return run
