"""How the next token is chosen: greedily, or drawn with an explicit key. Both are pytrees and cross jit as they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax

from impl.math.sampling import greedy, sample

__all__ = ["Choice", "Greedy", "Sample", "choose"]


@dataclass(frozen=True)
class Greedy:
    """The likeliest token, the first among equals."""


@dataclass(frozen=True)
class Sample:
    """A draw from softmax(logits / temperature) over the top_k likeliest tokens (0: all), with `key` as it is.

    The same key draws the same noise, so a caller who samples step after step folds the step into the key.
    Raises ValueError for a temperature that is not a positive finite number; `choose` refuses a wrong top_k.
    """

    key: jax.Array
    temperature: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature={self.temperature} must be positive and finite: to be certain use Greedy()")


Choice = Greedy | Sample

jax.tree_util.register_dataclass(Greedy, data_fields=[], meta_fields=[])
jax.tree_util.register_dataclass(Sample, data_fields=["key"], meta_fields=["temperature", "top_k"])


def choose(choice: Choice, logits: jax.Array) -> jax.Array:
    """A token for each row: logits [B, V] -> int32 [B]. Raises ValueError unless 0 <= top_k <= V."""
    if isinstance(choice, Greedy):
        return greedy(logits)
    return sample(choice.key, logits, temperature=choice.temperature, top_k=choice.top_k)
