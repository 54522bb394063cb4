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

__all__ = ["uncast"]

ASKED = {"convert_element_type_p": "new_dtype", "dot_general_p": "preferred_element_type"}
"""Primitive -> the parameter that says in which dtype its result is asked for."""

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
            yield
    finally:
        jax.clear_caches()


def _bound(bind: Callable[..., Any], parameter: str, *operands: Any, **parameters: Any) -> Any:
    if parameters.get(parameter) in COMPUTED_IN and all(_wide(each) for each in operands):
        parameters[parameter] = jnp.dtype(jnp.float64)
    return bind(*operands, **parameters)


def _wide(operand: Any) -> bool:
    return getattr(operand, "dtype", None) == jnp.float64
