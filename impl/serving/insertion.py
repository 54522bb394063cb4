"""Putting a filled prompt into one slot of the cache: what happens to each leaf, by its name and its logical axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from impl.trees import flat

__all__ = ["BATCH_AXIS", "insert_leaves"]

Path = tuple[str, ...]

BATCH_AXIS = "cache_batch"
"""The logical name of the axis that counts slots; exactly this, not a name that begins like it."""

_TAKEN = frozenset(("cached_prefill_key", "cached_prefill_value", "cache_prefill_position", "cache_prefill_segment_id"))
_EMPTIED = frozenset(("cache_ar_segment_id", "cached_ar_lengths"))
_KEPT = frozenset(("cached_ar_key", "cached_ar_value", "cache_ar_position"))


def insert_leaves(prefix: Any, cache: Any, axes: Mapping[Path, tuple[Any, ...]], slot: jax.Array) -> Any:
    """`cache` after the one row of `prefix` was put into row `slot`, an int32 scalar within bounds.

    Prefill leaves are copied. The slot's autoregressive part is emptied: its segment ids and its length become 0,
    which makes whatever keys, values and positions are left there invalid. `axes`: logical axes of each leaf by path,
    the layer axis of a stack included.

    Raises ValueError for a leaf with another name, without an axis called cache_batch, or of another shape.
    """
    arriving = flat(prefix)

    def put(path: Path, leaf: jax.Array) -> jax.Array:
        name, where = path[-1], "/".join(path)
        if name not in _TAKEN | _EMPTIED | _KEPT:
            known = ", ".join(sorted(_TAKEN | _EMPTIED | _KEPT))
            raise ValueError(f"cache leaf {where}: nobody has said what insert does to a {name!r}; known are {known}")
        axis = _batch_axis(where, axes.get(path, ()))
        if path not in arriving:
            raise ValueError(f"the prefix has no cache leaf {where}: it was made by an engine of another configuration")
        row = arriving[path]
        wanted = (*leaf.shape[:axis], 1, *leaf.shape[axis + 1 :])
        if row.shape != wanted or row.dtype != leaf.dtype:
            got, wants = f"{row.dtype}{list(row.shape)}", f"{leaf.dtype}{list(wanted)}"
            raise ValueError(f"cache leaf {where} of the prefix is {got}, expected {wants}: use one engine for both")
        if name in _KEPT:
            return leaf
        return jax.lax.dynamic_update_slice_in_dim(leaf, row if name in _TAKEN else jnp.zeros_like(row), slot, axis)

    leaves, form = jax.tree.flatten(cache)
    return jax.tree.unflatten(form, [put(path, leaf) for path, leaf in zip(flat(cache), leaves, strict=True)])


def _batch_axis(where: str, axes: tuple[Any, ...]) -> int:
    if BATCH_AXIS not in axes:
        raise ValueError(f"cache leaf {where} has logical axes {axes}: none is called {BATCH_AXIS!r}, so no slot")
    return axes.index(BATCH_AXIS)
