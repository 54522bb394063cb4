"""Serving a Linen model: variables {"params", "cache"}, of which "cache" is mutable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import AbstractMesh, Mesh

from impl.config import ModelConfig
from impl.linen.sharding import named_shardings
from impl.linen.transformer import Transformer
from impl.names import addresses, scatter
from impl.serving.engine import ServingEngine
from impl.serving.kv import Mode
from impl.serving.layout import cache_addresses
from impl.serving.staging import Abstract, staged_engine
from impl.serving.steps import Forward
from impl.sharding.placement import Placement, placements
from impl.sharding.rules import Rules
from impl.staging import Labels, Staged, named
from impl.trees import flat_axes, nested, overlay

__all__ = ["Engine", "axes_of", "forward_of"]


class Engine(ServingEngine):
    """Verbs and errors: `impl.serving.engine`. The module is stateless; the cache enters and leaves each apply."""

    layout = "layers_{i}"

    def load_params(self, weights: Mapping[str, np.ndarray]) -> None:
        target = nn.unbox(_abstract(self.config, 1)["params"])
        self.params = overlay(target, nested(scatter(weights, addresses(self.config, self.layout))))

    def _loaded(self) -> Any:
        return self.params

    def _forward(self, mode: Mode) -> Forward:
        return forward_of(self.config, mode)

    def _fresh_cache(self, rows: int) -> Any:
        # Zeros by shape: initialising for real would call the model, which writes its sample input to the cache.
        cache = nn.unbox(_abstract(self.config, rows)["cache"])
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), cache)

    def _cache_axes(self) -> dict[tuple[str, ...], tuple[Any, ...]]:
        return axes_of(self.config, self.slots)

    @classmethod
    def staged(cls, config: ModelConfig, slots: int) -> dict[str, Staged]:
        """The verbs on abstract values."""
        return staged_engine(_Abstract(config, slots), config, slots)

    @classmethod
    def placements(
        cls, config: ModelConfig, slots: int, mesh: Mesh | AbstractMesh, rules: Rules
    ) -> dict[str, Placement]:
        """Where each leaf of a cache for `slots` slots lives on `mesh`, by neutral name."""
        boxed, label = _abstract(config, slots)["cache"], Labels(cache_addresses(config, cls.layout)).parameter
        axes = {label(path): names for path, names in flat_axes(nn.get_partition_spec(boxed)).items()}
        return placements(named(nn.unbox(boxed), label), axes, named(named_shardings(boxed, mesh, rules), label))


class _Abstract(Abstract):
    """The engine without weights."""

    layout = Engine.layout

    def __init__(self, config: ModelConfig, slots: int):
        self.config, self.slots = config, slots
        self.labels = Labels(addresses(config, self.layout))
        self._params = nn.unbox(_abstract(config, 1)["params"])
        self.weights = named(self._params, self.labels.parameter)

    def filled(self, values: Mapping[str, Any]) -> Any:
        order = [values[name] for name in self.weights]
        return jax.tree.unflatten(jax.tree.structure(self._params), order)

    def forward(self, mode: Mode) -> Forward:
        return forward_of(self.config, mode)

    def cache(self, rows: int) -> Any:
        return nn.unbox(_abstract(self.config, rows)["cache"])

    def axes(self) -> dict[tuple[str, ...], tuple[Any, ...]]:
        return axes_of(self.config, self.slots)


def forward_of(config: ModelConfig, mode: Mode) -> Forward:
    """The model's pass in `mode`."""
    model = Transformer(config, mode)

    def forward(
        params: Any, cache: Any, tokens: jax.Array, positions: jax.Array, segment_ids: jax.Array
    ) -> tuple[jax.Array, Any]:
        variables = {"params": params, "cache": cache}
        logits, changed = model.apply(variables, tokens, positions, segment_ids, mutable=["cache"])
        return logits, changed["cache"]

    return forward


def axes_of(config: ModelConfig, slots: int) -> dict[tuple[str, ...], tuple[Any, ...]]:
    """Logical axes of the cache's leaves by path."""
    return flat_axes(nn.get_partition_spec(_abstract(config, slots)["cache"]))


def _abstract(config: ModelConfig, rows: int) -> Any:
    """Shapes, dtypes and logical axes (boxed) of the variables of a model that serves `rows` slots."""
    row = jnp.ones((rows, 1), jnp.int32)
    return jax.eval_shape(Transformer(config, "autoregressive").init, jax.random.key(0), row, row, row)
