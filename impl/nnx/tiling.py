"""The NNX loss in tiles: the model called up to its hidden states, then its head on one tile of them at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from impl.config import ConfigError
from impl.nnx.activations import constrained
from impl.nnx.fp8 import DIFFERENTIATED
from impl.nnx.sown import foreseen
from impl.nnx.state import captured
from impl.nnx.transformer import logits
from impl.sharding.activations import gathered
from impl.sharding.memory import fetching
from impl.training.auxiliary import collected
from impl.training.objective import Batch, Shares, Terms, tiled_objective, with_auxiliary
from impl.training.prediction import TiledHead, predicted_in_tiles
from impl.training.settings import TrainSettings

__all__ = ["tiled_loss"]

Path = tuple[str, ...]


def tiled_loss(
    graphdef: Any, settings: TrainSettings, shares: Shares
) -> Callable[[nnx.State, nnx.State, Batch], tuple[jax.Array, tuple[Terms, nnx.State]]]:
    """(Params, rest, batch) -> (what is differentiated, (loss terms, rest after the forward pass)).

    shares: how often each auxiliary loss counts.
    Raises ConfigError, while tracing, for a model without `head_module`.
    """

    def loss(params: nnx.State, rest: nnx.State, batch: Batch) -> tuple[jax.Array, tuple[Terms, nnx.State]]:
        model = nnx.merge(graphdef, params, rest, copy=True)
        if not hasattr(model, "head_module"):
            raise ConfigError(
                f"num_vocab_tiling={settings.num_vocab_tiling} needs a model with hidden and head_module, "
                f"{type(model).__name__} has none: train a native side, or set it to 1"
            )
        hidden, layers, further = _passed(model, batch, settings.num_vocab_tiling)
        # The head alone is taken apart: its weights are handed over, and nothing traced is closed over.
        config, (head_def, weights) = model.config, nnx.split(model.head_module)
        # Gathered here, once for the tiles of both passes.
        weights = fetching(config)(weights)
        weights = jax.tree.map(_gathered, weights, is_leaf=lambda node: isinstance(node, nnx.Variable))

        def head(weights: nnx.State, hidden: jax.Array) -> jax.Array:
            return logits(config, nnx.merge(head_def, weights, copy=True), hidden)

        aux = collected(layers, config)
        if config.mtp_num_layers:
            tiled = TiledHead(head, weights, settings.num_vocab_tiling)
            aux |= predicted_in_tiles(further, tiled, hidden, batch, config)
        value, terms = tiled_objective(head, weights, hidden, batch, settings)
        value, terms = with_auxiliary(value, terms, aux, shares)
        return value, (terms, nnx.state(model, nnx.Not(nnx.Any(DIFFERENTIATED, nnx.Intermediate))))

    return loss


def _passed(
    model: nnx.Module, batch: Batch, tiles: int
) -> tuple[jax.Array, dict[Path, jax.Array], dict[Path, jax.Array]]:
    """The last hidden state [B, T, E], and leaves sown by path: of layers, and of the block that predicts further."""
    if model.config.mtp_num_layers:
        return foreseen(model, batch, tiles)
    return *captured(model.hidden, model.config, batch.tokens, batch.positions, batch.segment_ids), {}


def _gathered(variable: nnx.Variable) -> nnx.Variable:
    """A weight of the head, whole along the axis that products with hidden states sum over."""
    return variable.replace(constrained(variable.get_value(), gathered(variable.get_metadata()["out_sharding"])))
