"""Pieces of the NNX side of a module pair: leaves by key, dropout off, one call, the loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
from flax import nnx

from harness.modules.engine import Mode, Stored, total
from harness.modules.spec import Batch, NnxModel, Task
from harness.names import Key, NameMapError
from harness.randomness import unwatched

__all__ = [
    "collection_of",
    "create",
    "dropouts",
    "flat",
    "key_of",
    "loss",
    "made",
    "output_of",
    "placed",
    "precision",
    "undropped",
    "variables",
]


def collection_of(kind: type[nnx.Variable]) -> str:
    """Linen's name of a Variable type: the one that Flax has registered for it or its nearest base, or its own name
    in lower case (Param "params", BatchStat "batch_stats", Cache "cache", a new class Ema "ema")."""
    for base in kind.__mro__:
        try:
            return nnx.variable_name_from_type(base)
        except ValueError:
            continue
    return kind.__name__.lower()


def create(model: NnxModel) -> nnx.Module:
    """A fresh module, always with the same streams of random keys. What it draws for its weights is not looked at."""
    with unwatched():
        return model.create(nnx.Rngs(0))


def made(model: NnxModel, stored: Stored, mode: Mode) -> nnx.Module:
    """A fresh module in `mode` that holds `stored`."""
    module = create(model)
    placed(module, stored)
    (model.evaluate if mode == "eval" else model.train)(module)
    return module if mode == "dropout" else undropped(module)


def variables(state: Any) -> Iterator[tuple[Any, Any]]:
    """Path and Variable of every leaf."""
    ignored = (nnx.RngState, nnx.Intermediate)
    return ((path, variable) for path, variable in nnx.to_flat_state(state) if not isinstance(variable, ignored))


def key_of(path: Any, variable: nnx.Variable) -> Key:
    """Collection and path of a Variable."""
    return collection_of(type(variable)), tuple(str(part) for part in path)


def flat(state: Any) -> dict[Key, Any]:
    """Leaves by key, without random streams and intermediates."""
    return {key_of(path, variable): variable.get_value() for path, variable in variables(state)}


def precision(model: NnxModel) -> str:
    """The coarsest dtype that a layer was told to compute in, "" if none is coarser than float32."""
    parts = nnx.iter_modules(nnx.eval_shape(lambda: create(model)))
    told = {jax.numpy.dtype(dtype) for _, part in parts if (dtype := getattr(part, "dtype", None)) is not None}
    coarse = [dtype for dtype in told if dtype.name in ("bfloat16", "float16")]
    return max(coarse, key=lambda dtype: jax.numpy.finfo(dtype).eps).name if coarse else ""


def dropouts(module: nnx.Module) -> Iterator[nnx.Dropout]:
    """Every dropout inside `module`."""
    return (part for _, part in nnx.iter_modules(module) if isinstance(part, nnx.Dropout))


def undropped(module: nnx.Module) -> nnx.Module:
    """Turns dropout off in train mode: the two frameworks draw different keys, so masks can never agree by value."""
    for part in dropouts(module):
        part.rate = 0.0
    for _, other in nnx.iter_modules(module):
        if isinstance(other, nnx.MultiHeadAttention):
            other.dropout_rate = 0.0
    return module


def output_of(model: NnxModel, module: nnx.Module, batch: Batch) -> Any:
    """One call. What it sows is caught and dropped: outside nnx.capture it would pile up inside the module."""
    return nnx.capture(model.call, nnx.Intermediate)(module, batch)[0]


def loss(model: NnxModel, task: Task, batch: Batch, module: nnx.Module) -> tuple[Any, Any]:
    """The loss of one call, and its terms."""
    terms = task.loss(output_of(model, module, batch), batch)
    return total(terms), terms


def placed(module: nnx.Module, stored: Stored) -> None:
    """Puts `stored` into `module`. Raises NameMapError unless it has exactly those leaves: nnx.update itself would
    pass over an unknown key in silence."""
    found = {key_of(path, variable): (path, variable) for path, variable in variables(nnx.state(module))}
    odd = sorted(found.keys() ^ stored.keys())
    if odd:
        raise NameMapError(
            [f"nnx {name}/{'/'.join(path)}: `create` makes other leaves each time" for name, path in odd]
        )
    loaded = [(found[key][0], found[key][1].replace(jax.numpy.asarray(array))) for key, array in stored.items()]
    nnx.update(module, nnx.from_flat_state(loaded))
