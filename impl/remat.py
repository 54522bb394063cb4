"""Rematerialisation policies by name: which activations a block keeps for its backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

__all__ = ["SAVED_EXCEPT_MLP", "policy"]

SAVED_EXCEPT_MLP = ("query_proj", "key_proj", "value_proj", "qkv_proj", "attention_out", "out_proj")
"""Names (jax.ad_checkpoint.checkpoint_name) that both sides give to the projections of attention."""

_POLICIES: dict[str, Callable[..., Any]] = {
    "full": jax.checkpoint_policies.nothing_saveable,
    "minimal": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "save_dot_except_mlp": jax.checkpoint_policies.save_only_these_names(*SAVED_EXCEPT_MLP),
}


def policy(name: str) -> Callable[..., Any]:
    """The jax.checkpoint policy called `name`: "full" keeps nothing, "minimal" the matrix products. "none" has none."""
    return _POLICIES[name]
