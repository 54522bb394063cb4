"""A training pass of an NNX model: logits, and what its layers sowed, taken from its captures by type."""

from __future__ import annotations

import jax
from flax import nnx

from impl.nnx.mtp import MtpAcceptance, MtpLosses
from impl.nnx.state import called, state_paths
from impl.training.auxiliary import collected
from impl.training.objective import Batch
from impl.training.prediction import predicted

__all__ = ["foreseen", "passed"]

Path = tuple[str, ...]


def passed(model: nnx.Module, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Logits [B, T, V] of a batch, and auxiliary terms by name. Nothing sown stays in the model."""
    config = model.config
    if not config.mtp_num_layers:
        logits, sown = called(model, batch)
        return logits, collected(sown, config)
    logits, layers, further = foreseen(model, batch, 1)
    return logits, collected(layers, config) | predicted(further, logits, batch, config)


def foreseen(
    model: nnx.Module, batch: Batch, tiles: int
) -> tuple[jax.Array, dict[Path, jax.Array], dict[Path, jax.Array]]:
    """What `predict` makes of a batch, and leaves sown by path: of layers, and of the block that predicts further."""
    # In this order: the first type that a value is an instance of takes it, and Intermediate would take them all.
    sought = MtpLosses, MtpAcceptance, nnx.Intermediate
    made, *taken = nnx.capture(model.predict, *sought)(batch, tiles)
    losses, guesses, layers = map(state_paths, taken)
    return made, layers, losses | guesses
