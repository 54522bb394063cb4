"""A training pass of an NNX model: logits, and what its layers sowed, taken from its captures by type."""

from __future__ import annotations

import jax
from flax import nnx

from impl.nnx.mtp import MtpAcceptance, MtpLosses
from impl.nnx.state import called, state_paths
from impl.training.auxiliary import collected
from impl.training.objective import Batch
from impl.training.prediction import predicted

__all__ = ["passed"]


def passed(model: nnx.Module, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Logits [B, T, V] of a batch, and auxiliary terms by name. Nothing sown stays in the model."""
    config = model.config
    if not config.mtp_num_layers:
        logits, sown = called(model, batch)
        return logits, collected(sown, config)
    # In this order: the first type that a value is an instance of takes it, and Intermediate would take them all.
    sought = MtpLosses, MtpAcceptance, nnx.Intermediate
    logits, *taken = nnx.capture(model.predict, *sought)(*batch)
    losses, guesses, layers = map(state_paths, taken)
    return logits, collected(layers, config) | predicted(losses | guesses, logits, batch, config)
