"""The output of every Linen module of one forward pass, by neutral module path, in the order in which they finish."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from impl.config import ModelConfig
from impl.linen.state import first_statistics
from impl.linen.transformer import Transformer
from impl.names import addresses, scatter
from impl.taps import neutral_taps
from impl.training.objective import Batch
from impl.trees import flat, nested

__all__ = ["taps"]


def taps(
    config: ModelConfig, weights: Mapping[str, np.ndarray], batch: Batch, dropout: int = -1, passes: int = 1
) -> dict[str, np.ndarray]:
    """Module path -> output; dropout off, or on with the key `dropout`. The last of `passes` in a row is returned."""
    order: list[tuple[str, ...]] = []

    def watch(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        result = call(*args, **kwargs)
        if context.method_name == "__call__":
            order.append((*context.module.path, "__call__", "0"))
        return result

    model = Transformer(config, deterministic=dropout < 0)
    params = {"params": nested(scatter(weights, addresses(config, "layers_{i}"))), **first_statistics(model, config)}
    key = jax.random.fold_in(jax.random.key(max(dropout, 0)), passes - 1)

    @jax.jit
    def run(params: Any, batch: Batch) -> Any:
        with nn.intercept_methods(watch):
            inputs = (batch.tokens, batch.positions, batch.segment_ids)
            return model.apply(
                params, *inputs, rngs={"dropout": key}, capture_intermediates=True, mutable=["intermediates"]
            )[1]

    with jax.default_matmul_precision(config.matmul_precision):
        captured = flat(run(params, batch)["intermediates"])
    return neutral_taps({path: captured[path] for path in dict.fromkeys(order) if path in captured}, config)
