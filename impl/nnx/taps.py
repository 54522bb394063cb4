"""The output of every NNX module of one forward pass, by neutral module path."""

from __future__ import annotations

from collections.abc import Mapping

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
    params = filled(params, scatter(weights, addresses(config, "layers/{i}")), ())

    @jax.jit
    def run(params: nnx.State, rest: nnx.State, batch: Batch) -> tuple[dict, nnx.State]:
        model = nnx.merge(graphdef, params, rest, copy=True)
        model.set_attributes(deterministic=dropout < 0, raise_if_not_found=False)
        capture = nnx.capture(model, nnx.Intermediate, method_outputs=nnx.Intermediate)
        captured = capture(batch.tokens, batch.positions, batch.segment_ids)[1]
        return nnx.to_pure_dict(captured), nnx.state(model, nnx.Not(nnx.Any(nnx.Param, nnx.Intermediate)))

    with jax.default_matmul_precision(config.matmul_precision):
        for _ in range(passes):
            captured, rest = run(params, rest, batch)
    return neutral_taps(flat(captured), config)
