"""A training pass of a Linen model: logits, and what its layers sowed, taken from the collections by name."""

from __future__ import annotations

from typing import Any

import jax
from flax import linen as nn

from impl.config import ModelConfig
from impl.linen.mtp import ACCEPTANCE, LOSS
from impl.training.auxiliary import collected
from impl.training.objective import Batch
from impl.training.prediction import predicted
from impl.trees import flat

__all__ = ["KEPT", "passed", "taken"]

KEPT = ["intermediates", LOSS, ACCEPTANCE]
"""What a pass of `predict` sows into."""

Path = tuple[str, ...]


def passed(
    model: nn.Module, config: ModelConfig, params: Any, batch: Batch, key: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Logits [B, T, V] of a batch, and auxiliary terms by name. key: of dropout."""
    keys = {"dropout": key}
    if not config.mtp_num_layers:
        inputs = (batch.tokens, batch.positions, batch.segment_ids)
        logits, sown = model.apply(params, *inputs, rngs=keys, mutable=["intermediates"])
        return logits, collected(flat(sown.get("intermediates", {})), config)
    logits, sown = model.apply(params, batch, 1, rngs=keys, mutable=KEPT, method="predict")
    layers, further = taken(sown)
    return logits, collected(layers, config) | predicted(further, logits, batch, config)


def taken(sown: Any) -> tuple[dict[Path, jax.Array], dict[Path, jax.Array]]:
    """Collections sown in a pass of `predict` -> leaves by path: of layers, and of the block that predicts further."""
    layers, losses, guesses = (flat(sown.get(collection, {})) for collection in KEPT)
    return layers, losses | guesses
