"""The output of every NNX module of one forward pass, by neutral module path, in the order in which they finish."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

import jax
import numpy as np
from flax import nnx

from impl.config import ModelConfig
from impl.names import addresses, scatter
from impl.nnx.state import filled
from impl.nnx.transformer import Transformer
from impl.taps import neutral_taps
from impl.training.objective import Batch
from impl.trees import flat

__all__ = ["taps"]


def taps(
    config: ModelConfig, weights: Mapping[str, np.ndarray], batch: Batch, dropout: int = -1, passes: int = 1
) -> dict[str, np.ndarray]:
    """Module path -> output; dropout off, or on with the key `dropout`. The last of `passes` in a row is returned."""

    def build() -> Transformer:
        return Transformer(config, rngs=nnx.Rngs(params=0, dropout=max(dropout, 0)))

    graphdef, params, _ = nnx.split(nnx.eval_shape(build), nnx.Param, ...)
    rest = jax.jit(lambda: nnx.state(build(), nnx.Not(nnx.Param)))()
    order: list[tuple[str, ...]] = []
    params = filled(params, scatter(weights, addresses(config, "layers/{i}")), ())

    @jax.jit
    def run(params: nnx.State, rest: nnx.State, batch: Batch) -> tuple[dict, nnx.State]:
        model = nnx.merge(graphdef, params, rest, copy=True)
        model.set_attributes(deterministic=dropout < 0, raise_if_not_found=False)
        capture = nnx.capture(model, nnx.Intermediate, method_outputs=nnx.Intermediate)
        with _watched(model, order):
            captured = capture(batch.tokens, batch.positions, batch.segment_ids)[1]
        return nnx.to_pure_dict(captured), nnx.state(model, nnx.Not(nnx.Any(nnx.Param, nnx.Intermediate)))

    with jax.default_matmul_precision(config.matmul_precision):
        for _ in range(passes):
            captured, rest = run(params, rest, batch)
    found = {path: leaf for path, leaf in flat(captured).items() if path[-2:] == ("__call__", "0")}
    return neutral_taps({path: found[path] for path in dict.fromkeys(order) if path in found}, config)


@contextmanager
def _watched(model: nnx.Module, order: list[tuple[str, ...]]) -> Iterator[None]:
    """Notes in `order` which module's call has ended. NNX has no interceptor like Linen's, so classes are wrapped.

    Blocks are called as copies that no longer know where they belong, so every module is told its path before.
    """
    for path, module in nnx.iter_modules(model):
        module.tap_path = (*map(str, path), "__call__", "0")
    with ExitStack() as stack:
        for cls in {type(module) for _, module in nnx.iter_modules(model)}:
            if original := vars(cls).get("__call__"):
                stack.callback(setattr, cls, "__call__", original)
                cls.__call__ = _noting(original, order)
        yield


def _noting(original: Callable[..., Any], order: list[tuple[str, ...]]) -> Callable[..., Any]:
    @wraps(original)
    def call(module: nnx.Module, *args: Any, **kwargs: Any) -> Any:
        result = original(module, *args, **kwargs)
        order.append(module.tap_path)
        return result

    return call
