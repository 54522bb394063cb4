"""The decoder in native Flax NNX."""

from impl.nnx.dpo_trainer import PreferenceTrainer
from impl.nnx.engine import Engine
from impl.nnx.sharded import ShardedTrainer
from impl.nnx.taps import taps
from impl.nnx.trainer import Trainer

__all__ = ["Engine", "PreferenceTrainer", "ShardedTrainer", "Trainer", "taps"]
