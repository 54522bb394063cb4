"""The Linen loss in tiles: the model applied up to its hidden states, then its head to one tile of them at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

from impl.config import ConfigError, ModelConfig
from impl.linen.activations import constrained
from impl.linen.sown import KEPT, taken
from impl.sharding.activations import gathered
from impl.sharding.memory import fetching
from impl.training.auxiliary import collected
from impl.training.objective import Batch, Shares, Terms, tiled_objective, with_auxiliary
from impl.training.prediction import TiledHead, predicted_in_tiles
from impl.training.settings import TrainSettings
from impl.trees import flat

__all__ = ["head_params", "tiled_loss"]


def head_params(params: Any, config: ModelConfig) -> Any:
    """The part of a model's variables that its method `head` reads."""
    held = params["params"]
    if config.logits_via_embedding:
        return {"params": {"token_embedder": held["token_embedder"]}}
    return {"params": {"decoder": {"logits_dense": held["decoder"]["logits_dense"]}}}


def tiled_loss(
    model: nn.Module, settings: TrainSettings, config: ModelConfig
) -> Callable[..., tuple[jax.Array, Terms]]:
    """(params, batch, key, shares of auxiliary losses) -> (what is differentiated, loss terms).

    Raises ConfigError for a model without `head`.
    """
    if not hasattr(model, "head"):
        raise ConfigError(
            f"num_vocab_tiling={settings.num_vocab_tiling} needs a model with methods hidden and head, "
            f"{type(model).__name__} has none: train a native side, or set it to 1"
        )

    names = gathered(("vocab", "embed_vocab") if config.logits_via_embedding else ("embed_vocab", "vocab"))

    def head(params: Any, hidden: jax.Array) -> jax.Array:
        return model.apply(params, hidden, method="head")

    def passed(params: Any, weights: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        keys = {"dropout": key}
        if not config.mtp_num_layers:
            inputs = (batch.tokens, batch.positions, batch.segment_ids)
            hidden, sown = model.apply(params, *inputs, rngs=keys, mutable=["intermediates"], method="hidden")
            return hidden, collected(flat(sown.get("intermediates", {})), config)
        tiles = settings.num_vocab_tiling
        hidden, sown = model.apply(params, batch, tiles, rngs=keys, mutable=KEPT, method="predict")
        layers, further = taken(sown)
        tiled = TiledHead(head, weights, tiles)
        return hidden, collected(layers, config) | predicted_in_tiles(further, tiled, hidden, batch, config)

    def loss(params: Any, batch: Batch, key: jax.Array, shares: Shares) -> tuple[jax.Array, Terms]:
        # Gathered here, once for the tiles of both passes.
        weights = fetching(config)(head_params(params, config))
        weights = jax.tree.map(lambda leaf: constrained(leaf, names, model.mesh), weights)
        hidden, aux = passed(params, weights, batch, key)
        value, terms = tiled_objective(head, weights, hidden, batch, settings)
        return with_auxiliary(value, terms, aux, shares)

    return loss
