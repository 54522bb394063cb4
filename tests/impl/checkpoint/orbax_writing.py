"""Checkpoints written by Orbax in forms that `save_tree` does not write: zarr 3, pieces of a size, plain files."""

from __future__ import annotations

import jax
import numpy as np
import orbax.checkpoint as ocp

KERNEL = np.random.default_rng(3).standard_normal((32, 4, 48)).astype(np.float32)
"""One stack of four layers."""


def write(path, tree, *, zarr3=False, ocdbt=True, piece=0, axes=()):
    """Saves `tree` at `path`. piece: bytes of a chunk, 0 for one chunk a leaf; axes: those to be cut first."""
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=ocdbt, use_zarr3=zarr3)
    how = ocp.SaveArgs(chunk_byte_size=piece, shard_axes=axes) if piece else ocp.SaveArgs()
    save_args = jax.tree.map(lambda leaf: how if getattr(leaf, "ndim", 0) > 1 else ocp.SaveArgs(), tree)
    ocp.Checkpointer(handler).save(path, args=ocp.args.PyTreeSave(tree, save_args=save_args))


def tree(kernel=KERNEL):
    """A small D1 state with `kernel` as its stack, twice."""
    weights, mu = ({"decoder": {"layers": {"w": kernel}, "norm": {"scale": kernel[:, 2, 5]}}} for _ in range(2))
    step = np.asarray(7, np.int32)
    return {"params": {"params": weights}, "opt_state": [{"mu": {"params": mu}}, None], "step": step}
