"""QK-Clip on a tree of parameters: which kernels of which layers, and where scans put their layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from impl.config import ModelConfig
from impl.experts import attention_name
from impl.math.clip import clipped_query, clipped_up, head_scales
from impl.stacks import Place, every_layer
from impl.training.auxiliary import leaf_below
from impl.trees import flat

__all__ = ["clipped_heads", "clipped_kernels"]

Path = tuple[str, ...]
Rule = Callable[[jax.Array, jax.Array, int], jax.Array]


def clipped_kernels(config: ModelConfig) -> dict[str, Rule]:
    """Name of a kernel inside attention -> how it is clipped."""
    return {"wq_b" if config.q_lora_rank else "query": clipped_query, "wkv_b": clipped_up}


def clipped_heads(tree: Any, largest: jax.Array, config: ModelConfig) -> Any:
    """Nested parameters with the kernels of each layer's heads clipped by their largest logits [layers, H].

    Every layer and head has a scale of its own, stacked or not. Raises SownError for a layer without such kernels.
    """
    leaves, scales = flat(tree), head_scales(largest, config.qk_clip_threshold)
    after = dict(leaves)
    for name, rule in clipped_kernels(config).items():
        for path, rows in _rows(leaves, name, config).items():
            layers = jnp.stack([scales[row] for row, _ in rows])
            after[path] = rule(leaves[path], _laid(layers, rows[0][1], config), config.qk_nope_head_dim)
    return jax.tree.unflatten(jax.tree.structure(tree), list(after.values()))


def _rows(leaves: dict[Path, Any], name: str, config: ModelConfig) -> dict[Path, list[tuple[int, Place]]]:
    """Path of each kernel of that name -> the layers that it holds, in order, with their numbers in forward order."""
    found: dict[Path, list[tuple[int, Place]]] = {}
    for row, place in enumerate(every_layer(config)):
        path = leaf_below(leaves, place, (attention_name(config),), (name, "kernel"), f"kernel {name} to clip")
        found.setdefault(path, []).append((row, place))
    return found


def _laid(scales: jax.Array, place: Place, config: ModelConfig) -> jax.Array:
    """Scales [layers, H] of one kernel as they fit all of its axes but the last."""
    if place.group.form != "scanned":
        return scales[0]
    return scales if config.param_scan_axis else scales[:, None]
