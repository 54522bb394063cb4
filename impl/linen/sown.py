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

__all__ = ["passed"]


def passed(
    model: nn.Module, config: ModelConfig, params: Any, batch: Batch, key: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Logits [B, T, V] of a batch, and auxiliary terms by name. key: of dropout."""
    keys = {"dropout": key}
    if not config.mtp_num_layers:
        inputs = (batch.tokens, batch.positions, batch.segment_ids)
        logits, sown = model.apply(params, *inputs, rngs=keys, mutable=["intermediates"])
        return logits, collected(flat(sown.get("intermediates", {})), config)
    kept = ["intermediates", LOSS, ACCEPTANCE]
    logits, sown = model.apply(params, *batch, rngs=keys, mutable=kept, method="predict")
    layers, *further = (flat(sown.get(collection, {})) for collection in kept)
    losses, guesses = further
    return logits, collected(layers, config) | predicted(losses | guesses, logits, batch, config)
