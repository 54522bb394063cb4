"""The conversion that loads everything, rearranges it and saves it: what the one by the index is held against."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Any

import numpy as np

from impl.checkpoint.dialects.assembly import assemble
from impl.checkpoint.dialects.canonical import canonicalise
from impl.checkpoint.dialects.relayout import relayout, target_dialect
from impl.checkpoint.storage.whole_trees import locate, read_arrays, staged, write_flat

__all__ = ["convert_in_memory", "write_sample"]


def convert_in_memory(source: FilePath, target: FilePath, *, to: str, layout: str, scan_axis: int) -> None:
    """Converts as `convert` does, every array in memory at once, through Orbax at both ends; nothing is verified."""
    location = locate(source)
    canonical = canonicalise(read_arrays(location))
    changed = relayout(canonical, layout, scan_axis, 1)
    flat = assemble(changed, target_dialect(canonical, to)).flat
    with staged(target) as stage:
        write_flat(stage, location.relative, flat, location.custom_metadata)


def write_sample(path: FilePath, *, layout: str, layers: int, width: int, compressed: str) -> int:
    """Writes a Linen train state of random weights with AdamW's slots, and returns how many leaves it has.

    layout: "stacked" at axis 1, each stack in one chunk, or "apart". compressed: "zstd" or "no". Weights, mu and nu
    have nine kernels a layer, of 15/4 width^2 numbers together, an embedding and a norm; float32.
    """
    import orbax.checkpoint as ocp

    rng = np.random.default_rng(7)
    parts = [(width, width // 2)] * 6 + [(width // 4, width)] * 3
    shapes = {f"kernel_{number}": shape for number, shape in enumerate(parts)}

    def model() -> dict[str, Any]:
        decoder: dict[str, Any] = {"decoder_norm": {"scale": rng.random(width, np.float32)}}
        if layout == "stacked":
            leaves = {name: {"kernel": rng.random((a, layers, b), np.float32)} for name, (a, b) in shapes.items()}
            decoder["layers"] = leaves
        for index in range(layers if layout == "apart" else 0):
            leaves = {name: {"kernel": rng.random(shape, np.float32)} for name, shape in shapes.items()}
            decoder[f"layers_{index}"] = leaves
        return {"params": {"decoder": decoder, "token_embedder": {"embedding": rng.random((width, 8), np.float32)}}}

    adam = {"count": np.array(3, np.int32), "mu": model(), "nu": model()}
    tree = {"params": model(), "opt_state": [adam, None, {"count": np.array(3, np.int32)}]}
    tree["step"] = np.array(3, np.int32)
    handler = ocp.PyTreeCheckpointHandler(use_compression=compressed == "zstd")
    ocp.Checkpointer(handler).save(path, args=ocp.args.PyTreeSave(tree))
    return 3 * (9 * (1 if layout == "stacked" else layers) + 2) + 3
