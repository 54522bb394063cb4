"""The decoder in native Flax Linen."""

from impl.linen.dpo_trainer import PreferenceTrainer
from impl.linen.engine import Engine
from impl.linen.sharded import ShardedTrainer
from impl.linen.taps import taps
from impl.linen.trainer import Trainer

__all__ = ["Engine", "PreferenceTrainer", "ShardedTrainer", "Trainer", "taps"]
