"""Weights and batches in NumPy: one generator for each neutral name, so that adding a parameter moves no other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import ml_dtypes  # noqa: F401  (teaches NumPy the name "bfloat16")
import numpy as np

from harness.names import NameMap, Row

__all__ = ["draw_batches", "draw_weights", "generator"]


def generator(seed: int, name: str) -> np.random.Generator:
    """The generator of one name. The hash is SHA-256, which no interpreter salts."""
    words = np.frombuffer(hashlib.sha256(name.encode()).digest()[:16], dtype="<u4")
    return np.random.default_rng(np.random.SeedSequence([seed, *(int(word) for word in words)]))


def draw_weights(names: NameMap, seed: int) -> dict[str, np.ndarray]:
    """Neutral name -> array with generic values: never all zeros or ones, so that no leaf can hide behind another.

    Arrays of two axes and more: normal / sqrt(fan in). scale: 1 + 0.1 n. bias: 0.1 n. Statistics: mean 0.2 n,
    var exp(0.2 n). Other floats 0.2 n, integers 1 to 6, booleans by a fair coin. n is standard normal.
    """
    return {row.name: _draw(row, generator(seed, row.name)) for row in names.rows}


def draw_batches(
    inputs: Callable[[np.random.Generator], Mapping[str, np.ndarray]], seed: int, steps: int
) -> dict[str, np.ndarray]:
    """Input name -> array with a leading axis of `steps`: one batch for each step."""
    batches = [inputs(generator(seed, f"inputs/{step}")) for step in range(steps)]
    return {name: np.stack([np.asarray(batch[name]) for batch in batches]) for name in batches[0]}


def _draw(row: Row, rng: np.random.Generator) -> np.ndarray:
    shape, last = row.leaf.shape, row.name.rpartition("/")[2]
    dtype = np.dtype(row.leaf.dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        return rng.integers(1, 7, shape).astype(dtype)
    normal = rng.standard_normal(shape)
    if last == "var":
        values = np.exp(0.2 * normal)
    elif last == "scale":
        values = 1 + 0.1 * normal
    elif last == "bias":
        values = 0.1 * normal
    elif row.collection == "params" and len(shape) >= 2:
        values = normal / np.sqrt(np.prod(shape[:-1]))
    else:
        values = 0.2 * normal
    return np.asarray(values).astype(dtype)
