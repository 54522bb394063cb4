"""Code that says float32 in its own text, computed in float64 all the same: what an oracle's runs are made in.

Layers are told a dtype, softmax and norms are done "in float32", and jax's own attention casts without being asked. In
an oracle's run, whose weights and inputs are float64, each such cast would leave a rounding of its own. Whether a side
casts where the other does not is no question for an oracle: it shows as an error that the other side does not make.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import primitives

from harness.randomness import WATCHED

__all__ = ["uncast"]

ASKED = {"convert_element_type_p": "new_dtype", "dot_general_p": "preferred_element_type"}
"""Primitive -> the parameter that says in which dtype its result is asked for."""

LOOPS = {"scan": 1, "while_loop": 2, "fori_loop": 3}
"""Function of jax.lax -> the place of what it carries, which often starts as zeros of a dtype that the code names."""

COMPUTED_IN = (jnp.float32, jnp.bfloat16, jnp.float16)
"""Casts to 8 bits are no matter of precision: they are what a quantised model means."""


@contextlib.contextmanager
def uncast() -> Iterator[None]:
    """Inside, what is traced keeps float64 values in float64 where a narrower dtype is asked for. Needs x64."""
    jax.clear_caches()
    try:
        with contextlib.ExitStack() as stack:
            for name, parameter in ASKED.items():
                primitive = getattr(primitives, name)
                # On the instance, above the method of its class.
                stack.callback(delattr, primitive, "bind")
                primitive.bind = partial(_bound, primitive.bind, parameter)
            for name, carried in LOOPS.items():
                loop = getattr(jax.lax, name)
                stack.callback(setattr, jax.lax, name, loop)
                setattr(jax.lax, name, partial(_looped, loop, carried))
            for name in WATCHED:
                draw = getattr(jax.random, name)
                stack.callback(setattr, jax.random, name, draw)
                setattr(jax.random, name, partial(_drawn, draw))
            yield
    finally:
        jax.clear_caches()


def _bound(bind: Callable[..., Any], parameter: str, *operands: Any, **parameters: Any) -> Any:
    if parameters.get(parameter) in COMPUTED_IN and all(_wide(each) for each in operands):
        parameters[parameter] = jnp.dtype(jnp.float64)
    return bind(*operands, **parameters)


def _looped(loop: Callable[..., Any], carried: int, *args: Any, **kwargs: Any) -> Any:
    """A loop that carries float64 where it would refuse to go on with what it started with."""
    try:
        return loop(*args, **kwargs)
    except TypeError:
        if len(args) <= carried:
            raise
        wide = jax.tree.map(_widened, args[carried])
        return loop(*args[:carried], wide, *args[carried + 1 :], **kwargs)


def _drawn(draw: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What is drawn without x64, where one key gives other numbers."""
    if any(_wide(value) for value in (*args, *kwargs.values())):
        return draw(*args, **kwargs)
    with jax.enable_x64(False):
        value = draw(*args, **kwargs)
    return _widened(value)


def _widened(value: Any) -> Any:
    if not hasattr(value, "dtype") or value.dtype not in COMPUTED_IN:
        return value
    return jnp.asarray(value, jnp.float64)


def _wide(operand: Any) -> bool:
    return getattr(operand, "dtype", None) == jnp.float64
