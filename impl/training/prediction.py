"""What layers that predict further sowed, as sums by name: their loss, its weight, and how often they agreed.

A side hands over what was sown as leaves by path. A term that is missing, or sown twice, is an error: it would be 0, or
stale, without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from impl.config import ConfigError, ModelConfig
from impl.math.mtp import agreeing, ahead, places_with_target
from impl.math.precision import full
from impl.math.tiling import Tiling, likeliest, tiled_loss_terms
from impl.names import nearest
from impl.prediction import BLOCK
from impl.stacks import predictors
from impl.training.auxiliary import SownError
from impl.training.objective import ACCEPTED, JUDGED, PREDICTION_SUM, PREDICTION_WEIGHTS, Batch

__all__ = [
    "GUESSES",
    "LOSSES",
    "PLACES",
    "STREAMS",
    "WEIGHTS",
    "TiledHead",
    "check_predictable",
    "predicted",
    "predicted_in_tiles",
    "unpredicted",
]

LOSSES, WEIGHTS = "losses", "weights"
"""Of all layers: cross entropy summed over places with a target, and the number of those places, float32 [n]."""

GUESSES, PLACES = "mtp_preds", "mtp_mask"
"""Of one layer: the likeliest token int [B, T], and where there is a target float32 [B, T]."""

STREAMS = "hidden_states"
"""Of all layers, where logits are made in tiles: their last hidden states [n, B, T, E]."""

Path = tuple[str, ...]


class TiledHead(NamedTuple):
    """The model's head, (weights, hidden [B, t, E]) -> logits [B, t, V]; its weights; into how many tiles to cut."""

    function: Callable[[Any, jax.Array], jax.Array]
    weights: Any
    tiles: int


def predicted(
    sown: Mapping[Path, jax.Array], logits: jax.Array, batch: Batch, config: ModelConfig
) -> dict[str, jax.Array]:
    """Leaves sown in one forward pass, and its logits [B, T, V] -> sums by name, float32 ().

    The loss is scaled by mtp_loss_scaling_factor already. A guess k tokens further agrees if the model itself, k places
    later in the same segment, finds the same token likeliest.
    Raises SownError unless everything was sown exactly once.
    """
    target, found = config.mtp_eval_target_module, _summed(sown, config)
    return found | _agreed(sown, jnp.argmax(logits, axis=-1), batch, target) if target else found


def _summed(sown: Mapping[Path, jax.Array], config: ModelConfig) -> dict[str, jax.Array]:
    return {
        PREDICTION_SUM: config.mtp_loss_scaling_factor * jnp.sum(_once(sown, LOSSES)),
        PREDICTION_WEIGHTS: jnp.sum(_once(sown, WEIGHTS)),
    }


def _agreed(sown: Mapping[Path, jax.Array], likeliest: jax.Array, batch: Batch, target: int) -> dict[str, jax.Array]:
    """likeliest int [B, T]: the model's own guesses of the next token."""
    places, own = _once(sown, PLACES), ahead(likeliest, batch.segment_ids, target)
    return {ACCEPTED: agreeing(_once(sown, GUESSES), own, places), JUDGED: jnp.sum(places)}


def predicted_in_tiles(
    sown: Mapping[Path, jax.Array], head: TiledHead, hidden: jax.Array, batch: Batch, config: ModelConfig
) -> dict[str, jax.Array]:
    """`predicted` of layers that sowed their last hidden states. hidden [B, T, E]: the model's own.

    No logits of more than one tile exist at once, neither for losses nor for guesses.
    """
    inside = batch.segment_ids
    places = [places_with_target(batch.target_segments, inside, place.layer) for place in predictors(config)]
    losses = [
        _tiled_loss(head, stream, ahead(batch.targets, inside, k), at)
        for k, (stream, at) in enumerate(zip(_once(sown, STREAMS), places, strict=True), 1)
    ]
    told: dict[Path, jax.Array] = {(LOSSES,): jnp.stack(losses), (WEIGHTS,): jnp.stack([jnp.sum(at) for at in places])}
    target = config.mtp_eval_target_module
    if not target:
        return _summed(told, config)
    guesses, own = (likeliest(*head, each) for each in (_once(sown, STREAMS)[target - 1], hidden))
    told |= {(GUESSES,): guesses, (PLACES,): places[target - 1]}
    return _summed(told, config) | _agreed(told, own, batch, target)


def _tiled_loss(head: TiledHead, hidden: jax.Array, targets: jax.Array, places: jax.Array) -> jax.Array:
    """`impl.math.mtp.further_loss` of the logits of hidden [B, T, E], tile by tile."""
    counted = places.astype(jnp.int32)
    return tiled_loss_terms(head.function, Tiling(head.tiles, 0.0), head.weights, hidden, targets, counted).xent_sum


def _once(sown: Mapping[Path, jax.Array], name: str) -> jax.Array:
    paths = [path for path in sown if name in path]
    if len(paths) != 1:
        known = ["/".join(path) for path in sown]
        raise SownError(nearest(f"{BLOCK} sowed {name} {len(paths)} times, expected once", f"{BLOCK}/{name}", known))
    return sown[paths[0]]


def unpredicted(config: ModelConfig) -> dict[str, jax.Array]:
    """What `predicted` gives, all zeros: where sums over microbatches start."""
    if not config.mtp_num_layers:
        return {}
    judged = (ACCEPTED, JUDGED) if config.mtp_eval_target_module else ()
    return {name: jnp.zeros((), full()) for name in (PREDICTION_SUM, PREDICTION_WEIGHTS, *judged)}


def check_predictable(model: object, config: ModelConfig) -> None:
    """Raise ConfigError for a model that cannot predict further."""
    if config.mtp_num_layers and not hasattr(model, "predict"):
        raise ConfigError(
            f"mtp_num_layers={config.mtp_num_layers} needs a model with a method predict, {type(model).__name__} has "
            "none: train a native side, or set it to 0"
        )
