"""For each rewrite, two spellings of one value that only it brings together, on generic values of several dtypes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["FORMS", "Forms", "drawn"]

FLOATS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class Forms:
    """Two functions of the same arguments. shapes: of the arguments; dtypes: to try in turn, each for all of them."""

    one: Callable[..., jax.Array]
    other: Callable[..., jax.Array]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...] = FLOATS


def drawn(shapes: tuple[tuple[int, ...], ...], dtype: str, seed: int) -> list[np.ndarray]:
    """Values of every size, negative ones, both zeros and subnormals; for integers, both ends of the range."""
    random = np.random.default_rng([seed, 5])
    result = []
    for shape in shapes:
        if dtype.startswith(("int", "uint")):
            ends = np.iinfo(dtype)
            result.append(random.integers(ends.min, ends.max, shape, dtype, endpoint=True))
            continue
        widest = 10 if dtype == "float16" else 40
        values = random.normal(size=shape) * np.exp2(random.integers(-widest, widest, shape))
        values.reshape(-1)[: len(SPECIAL)] = SPECIAL[: values.size]
        result.append(values.astype(jnp.dtype(dtype)))
    return result


SPECIAL = (0.0, -0.0, 1e-45, -1e-40, 1.0)


def _sum_squares(*parts: jax.Array) -> jax.Array:
    return jnp.sort(jnp.stack([jnp.sum(jnp.square(part)) for part in parts]))


def _many(*parts: jax.Array) -> jax.Array:
    return lax.concatenate(parts, 0)


ZERO, ONE = np.int32(0), np.int32(1)


def _counted() -> jax.Array:
    """1, by arithmetic that only a judge who counts can see through."""
    three = lax.max(lax.add(ONE, ONE), lax.convert_element_type(np.uint8(3), "int32"))
    return lax.sub(lax.mul(three, ONE), np.int32(2))


def _sliced(x: jax.Array, start: tuple[int, ...], limit: tuple[int, ...]) -> jax.Array:
    # lax.slice itself leaves out what cuts nothing off.
    return lax.slice_p.bind(x, start_indices=start, limit_indices=limit, strides=None)


def _updated(x: jax.Array, y: jax.Array) -> jax.Array:
    return lax.dynamic_update_slice(x, y, (ONE, ZERO))


FORMS: dict[str, Forms] = {
    "convert to its own type": Forms(
        # The first choice is weakly typed, and is converted to what it is already.
        one=lambda x: jnp.where(x > 0, 1.5, 2.5).astype("float32") * x,
        other=lambda x: jnp.where(x > 0, np.float32(1.5), np.float32(2.5)) * x,
        shapes=((3, 5),),
        dtypes=("float32",),
    ),
    "convert between int and uint": Forms(
        one=lambda x, y: (x.astype("uint32") + y.astype("uint32") * 7).astype("int32"),
        other=lambda x, y: x + y * 7,
        shapes=((3, 5), (3, 5)),
        dtypes=("int32",),
    ),
    "reshape to its own shape": Forms(
        one=lambda x: jnp.sin(x.reshape(15).reshape(3, 5)), other=lambda x: jnp.sin(x), shapes=((3, 5),)
    ),
    "reshape twice": Forms(
        one=lambda x: x.reshape(15).reshape(5, 3) * 2, other=lambda x: x.reshape(5, 3) * 2, shapes=((3, 5),)
    ),
    "reshape a repeated scalar": Forms(
        one=lambda x: lax.broadcast(x, (3, 5)).reshape(5, 3), other=lambda x: lax.broadcast(x, (5, 3)), shapes=((),)
    ),
    "constant of equal elements": Forms(
        one=lambda x: x + np.full((3, 5), 1.5, x.dtype),
        other=lambda x: x + lax.broadcast(np.asarray(1.5, x.dtype), (3, 5)),
        shapes=((3, 5),),
    ),
    "broadcast axes of size 1": Forms(
        one=lambda x: lax.broadcast_in_dim(x, (3, 5, 4), (0, 1)),
        other=lambda x: lax.broadcast_in_dim(x.reshape(3), (3, 5, 4), (0,)),
        shapes=((3, 1),),
    ),
    "broadcast without repetition": Forms(
        one=lambda x: lax.broadcast_in_dim(x, (3, 1, 5), (0, 2)), other=lambda x: x.reshape(3, 1, 5), shapes=((3, 5),)
    ),
    "broadcast twice": Forms(
        one=lambda x: lax.broadcast_in_dim(lax.broadcast_in_dim(x, (3, 5), (0,)), (3, 4, 5), (0, 2)),
        other=lambda x: lax.broadcast_in_dim(x, (3, 4, 5), (0,)),
        shapes=((3,),),
    ),
    "transpose twice": Forms(
        one=lambda x: lax.transpose(lax.transpose(x, (2, 0, 1)), (1, 0, 2)),
        other=lambda x: lax.transpose(x, (0, 2, 1)),
        shapes=((2, 3, 5),),
    ),
    "compare the other way round": Forms(
        one=lambda x, y: jnp.stack([x > y, x >= y]),
        other=lambda x, y: jnp.stack([y < x, y <= x]),
        shapes=((3, 5), (3, 5)),
        dtypes=(*FLOATS, "int32", "uint8"),
    ),
    "select by a negation": Forms(
        one=lambda x, y: jnp.where(~(x < y), x, y), other=lambda x, y: jnp.where(x < y, y, x), shapes=((3, 5), (3, 5))
    ),
    "round to its own precision": Forms(
        one=lambda x: lax.reduce_precision(x, jnp.finfo(x.dtype).nexp, jnp.finfo(x.dtype).nmant) * 3,
        other=lambda x: x * 3,
        shapes=((3, 5),),
    ),
    "square": Forms(one=lambda x: lax.square(x), other=lambda x: x * x, shapes=((3, 5),)),
    "divide by a power of two": Forms(
        one=lambda x: jnp.stack([x / 8, x / 0.25]), other=lambda x: jnp.stack([x * 0.125, x * 4]), shapes=((3, 5),)
    ),
    "concatenate twice": Forms(one=lambda x, y, z: _many(_many(x, y), z), other=_many, shapes=((3, 5), (1, 5), (2, 5))),
    "transpose axes of size 1": Forms(
        one=lambda x: lax.transpose(x, (1, 0, 2)), other=lambda x: x.reshape(3, 1, 5), shapes=((1, 3, 5),)
    ),
    "arithmetic on whole numbers": Forms(
        one=lambda x: lax.dynamic_slice(x, (_counted(), ZERO), (2, 5)),
        other=lambda x: lax.slice(x, (1, 0), (3, 5)),
        shapes=((3, 5),),
    ),
    "select by a known truth": Forms(
        one=lambda x, y: lax.select(lax.lt(ONE, ZERO), x, y) * 2, other=lambda x, y: y * 2, shapes=((3, 5), (3, 5))
    ),
    "slice at a known place": Forms(
        one=lambda x: lax.dynamic_slice(x, (ONE, ONE), (2, 3)),
        other=lambda x: lax.slice(x, (1, 1), (3, 4)),
        shapes=((3, 5),),
    ),
    "slice everything": Forms(one=lambda x: _sliced(x, (0, 0), (3, 5)) * 2, other=lambda x: x * 2, shapes=((3, 5),)),
    "slice twice": Forms(
        one=lambda x: _sliced(_sliced(x, (1, 1), (3, 5)), (1, 0), (2, 3)),
        other=lambda x: _sliced(x, (2, 1), (3, 4)),
        shapes=((3, 5),),
    ),
    "slice a concatenation": Forms(
        one=lambda x, y: _sliced(_many(x, y), (4, 1), (5, 3)),
        other=lambda x, y: _sliced(y, (1, 1), (2, 3)),
        shapes=((3, 5), (2, 5)),
    ),
    "slice an update": Forms(
        one=lambda x, y: _many(_sliced(_updated(x, y), (1, 1), (3, 3)), _sliced(_updated(x, y), (0, 1), (1, 3))),
        other=lambda x, y: _many(_sliced(y, (0, 1), (2, 3)), _sliced(x, (0, 1), (1, 3))),
        shapes=((3, 5), (2, 5)),
    ),
    "slice a repeated scalar": Forms(
        one=lambda x: _sliced(lax.broadcast(x, (3, 5)), (1, 1), (3, 3)),
        other=lambda x: lax.broadcast(x, (2, 2)),
        shapes=((),),
    ),
    "slice a transpose": Forms(
        one=lambda x: _sliced(lax.transpose(x, (2, 0, 1)), (1, 0, 2), (4, 2, 3)),
        other=lambda x: lax.transpose(_sliced(x, (0, 2, 1), (2, 3, 4)), (2, 0, 1)),
        shapes=((2, 3, 5),),
    ),
    "update at a known place": Forms(
        # A place too far out is moved in.
        one=lambda x, y: lax.dynamic_update_slice(x, y, (np.int32(9), ZERO)),
        other=_updated,
        shapes=((3, 5), (2, 5)),
    ),
    "update everything": Forms(
        one=lambda x, y: lax.dynamic_update_slice(x, y, (ZERO, ZERO)) * 2,
        other=lambda x, y: y * 2,
        shapes=((3, 5), (3, 5)),
    ),
    "sum over axes of size 1": Forms(
        one=lambda x: lax.reduce_sum_p.bind(x, axes=(1,), out_sharding=None),
        other=lambda x: x.reshape(3, 5),
        shapes=((3, 1, 5),),
    ),
    "sort sums of squares": Forms(
        one=lambda x, y, z: _sum_squares(x, y, z),
        other=lambda x, y, z: _sum_squares(z, x, y),
        shapes=((3, 5), (4,), ()),
        dtypes=("float32",),
    ),
}
"""Name of a rewrite in `harness.graph.rewriting.RULES` -> its two forms."""
