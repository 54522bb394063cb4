"""What layers that predict further sowed, as sums by name: their loss, its weight, and how often they agreed.

A side hands over what was sown as leaves by path. A term that is missing, or sown twice, is an error: it would be 0, or
stale, without a word.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from impl.config import ConfigError, ModelConfig
from impl.math.mtp import agreeing, ahead
from impl.math.precision import full
from impl.names import nearest
from impl.prediction import BLOCK
from impl.training.auxiliary import SownError
from impl.training.objective import ACCEPTED, JUDGED, PREDICTION_SUM, PREDICTION_WEIGHTS, Batch
from impl.training.settings import TrainSettings

__all__ = ["GUESSES", "LOSSES", "PLACES", "WEIGHTS", "check_predictable", "predicted", "unpredicted"]

LOSSES, WEIGHTS = "losses", "weights"
"""Of all layers: cross entropy summed over places with a target, and the number of those places, float32 [n]."""

GUESSES, PLACES = "mtp_preds", "mtp_mask"
"""Of one layer: the likeliest token int [B, T], and where there is a target float32 [B, T]."""

Path = tuple[str, ...]


def predicted(
    sown: Mapping[Path, jax.Array], logits: jax.Array, batch: Batch, config: ModelConfig
) -> dict[str, jax.Array]:
    """Leaves sown in one forward pass, and its logits [B, T, V] -> sums by name, float32 ().

    The loss is scaled by mtp_loss_scaling_factor already. A guess k tokens further agrees if the model itself, k places
    later in the same segment, finds the same token likeliest.
    Raises SownError unless everything was sown exactly once.
    """
    factor, target = config.mtp_loss_scaling_factor, config.mtp_eval_target_module
    found = {
        PREDICTION_SUM: factor * jnp.sum(_once(sown, LOSSES)),
        PREDICTION_WEIGHTS: jnp.sum(_once(sown, WEIGHTS)),
    }
    if target:
        places = _once(sown, PLACES)
        own = ahead(jnp.argmax(logits, axis=-1), batch.segment_ids, target)
        found |= {ACCEPTED: agreeing(_once(sown, GUESSES), own, places), JUDGED: jnp.sum(places)}
    return found


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


def check_predictable(model: object, config: ModelConfig, settings: TrainSettings) -> None:
    """Raise ConfigError for a model that cannot predict further, and for tiles, which never make all its logits."""
    if not config.mtp_num_layers:
        return
    if not hasattr(model, "predict"):
        raise ConfigError(
            f"mtp_num_layers={config.mtp_num_layers} needs a model with a method predict, {type(model).__name__} has "
            "none: train a native side, or set it to 0"
        )
    if settings.num_vocab_tiling > 1:
        raise ConfigError(
            f"num_vocab_tiling={settings.num_vocab_tiling} with mtp_num_layers={config.mtp_num_layers}: layers that "
            "predict further make whole logits, which tiles are to avoid; set one of the two to its default"
        )
