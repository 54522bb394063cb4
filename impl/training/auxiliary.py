"""Auxiliary terms of a training step: what layers sowed, by name and in order, and routing biases moved by it.

A side hands over what was sown as leaves by path; where layers lie is known from `impl.stacks`. A term that a layer
should have sown and did not, or sowed twice, is an error: it would be 0, or stale, without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from impl.config import ModelConfig
from impl.experts import BALANCE, LOADS, feed_forward_name, has_experts, told
from impl.latent import PEAKS
from impl.math.attention import MASKED
from impl.math.moe import bias_update
from impl.math.precision import full
from impl.names import nearest
from impl.stacks import Place, every_layer
from impl.trees import flat

__all__ = ["SownError", "asked", "blank", "collected", "leaf_below", "moved_biases"]

Path = tuple[str, ...]
SPELLINGS = ("layers_{i}", "layers/{i}")


class SownError(ValueError):
    """A term that was not sown once by each layer. The message names the layer and what was sown instead."""


def collected(sown: Mapping[Path, jax.Array], config: ModelConfig) -> dict[str, jax.Array]:
    """Leaves sown in one forward pass -> name -> term: the load-balance loss (), a mean over layers; loads [layers, N];
    the largest logits [layers, H] of all rows.

    Raises SownError unless every layer that has the term sowed it exactly once.
    """
    found = {}
    for name in told(config):
        rows = jnp.stack([_of_layer(sown, name, place) for place in _with_experts(config)])
        found[name] = jnp.mean(rows) if name == BALANCE else rows
    if config.use_qk_clip:
        found[PEAKS] = jnp.stack([jnp.max(_of_layer(sown, PEAKS, place), axis=0) for place in every_layer(config)])
    return found


def asked(config: ModelConfig) -> tuple[str, ...]:
    """The names that `collected` gives: whether layers sow anything at all."""
    return (*told(config), *((PEAKS,) if config.use_qk_clip else ()))


def _with_experts(config: ModelConfig) -> list[Place]:
    return [place for place in every_layer(config) if has_experts(config, place.kind)]


def _of_layer(sown: Mapping[Path, jax.Array], name: str, place: Place) -> jax.Array:
    roots = [place.path(spelled) for spelled in SPELLINGS]
    paths = [path for path in sown if name in path and any(path[: len(root)] == root for root in roots)]
    if len(paths) != 1:
        known = ["/".join(path) for path in sown]
        raise SownError(nearest(f"{place.name} sowed {name} {len(paths)} times, expected once", place.name, known))
    leaf = sown[paths[0]]
    return leaf[place.index] if place.group.form == "scanned" else leaf


def blank(config: ModelConfig) -> dict[str, jax.Array]:
    """What `collected` gives of no rows at all: where those of microbatches are added to."""
    shapes = {BALANCE: (), LOADS: (len(_with_experts(config)), config.num_experts)}
    found = {name: jnp.zeros(shapes[name], full()) for name in told(config)}
    if config.use_qk_clip:
        found[PEAKS] = jnp.full((len(every_layer(config)), config.num_query_heads), MASKED, full())
    return found


def moved_biases(tree: Any, loads: jax.Array, config: ModelConfig) -> Any:
    """Nested parameters with each layer's routing bias moved once, towards even loads [layers, N].

    Raises SownError for a layer that has no such bias.
    """
    steps = bias_update(loads, config.routed_bias_update_rate)
    leaves = flat(tree)
    moved: dict[Path, jax.Array] = {}
    for step, place in zip(steps, _with_experts(config), strict=True):
        name = feed_forward_name(config, place.kind)
        path = leaf_below(leaves, place, (name,), ("gate", "bias"), "routing bias to move")
        leaf = moved.get(path, leaves[path])
        step = step.astype(leaf.dtype)
        if place.group.form != "scanned":
            moved[path] = leaf + step
        elif config.param_scan_axis:
            moved[path] = leaf.at[:, place.index].add(step)
        else:
            moved[path] = leaf.at[place.index].add(step)
    order = [moved.get(path, leaf) for path, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(tree), order)


def leaf_below(leaves: Mapping[Path, Any], place: Place, within: Path, ending: Path, what: str) -> Path:
    """The path in `leaves` of what ends in `ending` below `within` in a layer, however the side spells layers.

    Raises SownError, which says that the layer has no such thing as `what`, if there is none.
    """
    for spelled in SPELLINGS:
        root = (*place.path(spelled), *within)
        found = [path for path in leaves if path[-len(ending) :] == ending and _holds(path, root)]
        if found:
            return found[0]
    raise SownError(nearest(f"{place.name} has no {what}", place.name, map("/".join, leaves)))


def _holds(path: Path, root: Path) -> bool:
    """Whether `root` stands in `path`, which may begin with a collection's name."""
    return any(path[at : at + len(root)] == root for at in range(2))
