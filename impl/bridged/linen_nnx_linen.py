"""enable_nnx alone: a Linen module (ToLinen) around an NNX Transformer around the Linen decoder (ToNNX)."""

from __future__ import annotations

from impl.bridged import nnx_linen
from impl.bridged.linen_nnx import Trainer as WrappedTrainer
from impl.bridged.linen_nnx import to_linen

__all__ = ["Trainer"]


class Trainer(WrappedTrainer):
    """Trains the doubly bridged model as a Linen model, under Linen's names."""

    model = staticmethod(to_linen(nnx_linen.Transformer))
    layout = "layers_{i}"
