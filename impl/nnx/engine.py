"""Serving an NNX model: split three ways into Params, Cache and the rest; the cache crosses jit as a pure state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jax.sharding import AbstractMesh, Mesh

from impl.config import ModelConfig
from impl.names import addresses, scatter
from impl.nnx.sharding import named_shardings
from impl.nnx.state import filled, logical_axes, state_paths
from impl.nnx.transformer import Transformer
from impl.serving.engine import ServingEngine
from impl.serving.kv import Mode
from impl.serving.layout import cache_addresses
from impl.serving.staging import Abstract, staged_engine
from impl.serving.steps import Forward
from impl.sharding.placement import Placement, placements
from impl.sharding.rules import Rules
from impl.staging import Labels, Staged
from impl.trees import flat

__all__ = ["Engine", "Parts", "forward_of"]


class Parts(NamedTuple):
    """A model split with nothing allocated: its graph, and the shapes of its Params, its Cache and the rest."""

    graphdef: Any
    params: nnx.State
    cache: nnx.State
    rest: nnx.State


class Engine(ServingEngine):
    """Verbs and errors: `impl.serving.engine`. Each call merges a copy, so that no caller's Variable is written."""

    layout = "layers/{i}"

    def load_params(self, weights: Mapping[str, np.ndarray]) -> None:
        leaves = scatter(weights, addresses(self.config, self.layout))
        self.params = filled(_parts(self.config, 1).params, leaves, ())
        # What is neither parameter nor cache (rng streams of dropout) is made once and stays as it is.
        self.rest = jax.jit(lambda: nnx.split(_model(self.config, 1), nnx.Param, nnx.Cache, ...)[3])()

    def _loaded(self) -> Any:
        return self.params, self.rest

    def _forward(self, mode: Mode) -> Forward:
        return forward_of(self.config, mode, self.slots)

    def _fresh_cache(self, rows: int) -> Any:
        return nnx.to_pure_dict(jax.jit(lambda: nnx.state(_model(self.config, rows), nnx.Cache))())

    def _cache_axes(self) -> dict[tuple[str, ...], tuple[Any, ...]]:
        return logical_axes(_parts(self.config, self.slots).cache)

    @classmethod
    def staged(cls, config: ModelConfig, slots: int) -> dict[str, Staged]:
        """The verbs on abstract values."""
        return staged_engine(_Abstract(config, slots), config, slots)

    @classmethod
    def placements(
        cls, config: ModelConfig, slots: int, mesh: Mesh | AbstractMesh, rules: Rules
    ) -> dict[str, Placement]:
        """Where each leaf of a cache for `slots` slots lives on `mesh`, by neutral name."""
        cache, label = _parts(config, slots).cache, Labels(cache_addresses(config, cls.layout)).parameter
        axes = {label(path): names for path, names in logical_axes(cache).items()}
        shardings = {label(path): each for path, each in state_paths(named_shardings(cache, mesh, rules)).items()}
        return placements({label(path): leaf for path, leaf in state_paths(cache).items()}, axes, shardings)


class _Abstract(Abstract):
    """The engine without weights. Streams of random keys, which serving never draws from, are weights beside them."""

    layout = Engine.layout

    def __init__(self, config: ModelConfig, slots: int):
        self.config, self.slots = config, slots
        self.labels = Labels(addresses(config, self.layout))
        self._parts = _parts(config, 1)
        params = {self.labels.parameter(path): leaf for path, leaf in state_paths(self._parts.params).items()}
        self._streams = {f"rngs {'/'.join(path)}": path for path in state_paths(self._parts.rest)}
        rest = state_paths(self._parts.rest)
        self.weights = params | {name: rest[path] for name, path in self._streams.items()}

    def filled(self, values: Mapping[str, Any]) -> Any:
        params = {path: values[self.labels.parameter(path)] for path in state_paths(self._parts.params)}
        rest = {path: values[name] for name, path in self._streams.items()}
        return filled(self._parts.params, params, ()), filled(self._parts.rest, rest, ())

    def forward(self, mode: Mode) -> Forward:
        return forward_of(self.config, mode, self.slots)

    def cache(self, rows: int) -> Any:
        return nnx.to_pure_dict(_parts(self.config, rows).cache)

    def axes(self) -> dict[tuple[str, ...], tuple[Any, ...]]:
        return logical_axes(_parts(self.config, self.slots).cache)


def forward_of(config: ModelConfig, mode: Mode, slots: int) -> Forward:
    """The model's pass in `mode`: one row for "prefill", else all slots."""
    parts = _parts(config, 1 if mode == "prefill" else slots)

    def forward(
        loaded: Any, cache: Any, tokens: jax.Array, positions: jax.Array, segment_ids: jax.Array
    ) -> tuple[jax.Array, Any]:
        params, rest = loaded
        held = filled(parts.cache, flat(cache), ())
        model = nnx.merge(parts.graphdef, params, held, rest, copy=True)
        logits = model(tokens, positions, segment_ids, mode)
        return logits, nnx.to_pure_dict(nnx.state(model, nnx.Cache))

    return forward


def _model(config: ModelConfig, rows: int) -> nnx.Module:
    """A model that serves `rows` slots, dropout off."""
    model = Transformer(config, rngs=nnx.Rngs(0), slots=rows)
    model.eval()
    return model


def _parts(config: ModelConfig, rows: int) -> Parts:
    return Parts(*nnx.split(nnx.eval_shape(lambda: _model(config, rows)), nnx.Param, nnx.Cache, ...))
