"""Synthetic checkpoints: generic values, unequal dimensions. Letters: E embed 6, F mlp 10, V vocab 13, L layers."""

from __future__ import annotations

import shutil

import jax
import ml_dtypes
import numpy as np
import pytest

from impl.checkpoint.storage.index import Extent, read_index
from tests.impl.checkpoint.saving import saved


def _nested(leaves):
    tree = {}
    for name, leaf in leaves.items():
        node = tree
        *parents, last = name.split("/")
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = leaf
    return tree


@pytest.fixture(scope="session")
def nested():
    """{"a/b": leaf} to nested dicts."""
    return _nested


@pytest.fixture(scope="session")
def draw():
    """draw(name, shape, dtype): values that depend on the name alone."""

    def make(name, shape, dtype="float32"):
        seed = sum(position * ord(letter) for position, letter in enumerate(name, 7))
        values = np.random.default_rng(seed).normal(0.3, 1.7, shape)
        return np.asarray(values, ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)

    return make


@pytest.fixture(scope="session")
def model_leaves(draw):
    """model_leaves(depth, axis): {path: array} of a small decoder; axis -1 gives layers_<i>, else stacked there."""
    shapes = {
        "mlp/wi_0/kernel": ((6, 10), "float32"),
        "mlp/wo/kernel": ((10, 6), "bfloat16"),
        "pre_self_attention_norm_local/scale": ((6,), "float32"),
        "pre_self_attention_norm_global/scale": ((6,), "bfloat16"),
        "self_attention/query/kernel": ((6, 2, 3), "float32"),
        "self_attention/sinks": ((2,), "float32"),
    }

    def make(depth, axis, salt=""):
        leaves = {
            "token_embedder/embedding": draw("embedding" + salt, (13, 6)),
            "decoder/decoder_norm/scale": draw("norm" + salt, (6,)),
        }
        for rest, (shape, dtype) in shapes.items():
            layers = [draw(f"{rest}{index}{salt}", shape, dtype) for index in range(depth)]
            if axis < 0:
                leaves |= {f"decoder/layers_{index}/{rest}": layer for index, layer in enumerate(layers)}
            else:
                leaves[f"decoder/layers/{rest}"] = np.stack(layers, min(axis, len(shape)))
        return leaves

    return make


@pytest.fixture(scope="session")
def linen_tree(model_leaves, nested):
    """linen_tree(depth, axis): a D1 train state with AdamW after 5 steps."""

    def make(depth, axis):
        def tree(salt):
            return {"params": nested(model_leaves(depth, axis, salt))}

        adam = {"count": np.int32(5), "mu": tree("mu"), "nu": tree("nu")}
        return {"params": tree(""), "opt_state": [adam, None, {"count": np.int32(6)}], "step": np.int32(5)}

    return make


@pytest.fixture(scope="session")
def whole(tmp_path_factory, linen_tree):
    """A checkpoint of every kind of file: typed keys, a string, values in data files and in the index."""
    folder = tmp_path_factory.mktemp("whole") / "checkpoint"
    tree = linen_tree(3, -1)
    tree["params"]["params"]["token_embedder"]["embedding"] = np.arange(999.5, 2999.5, dtype=np.float32).reshape(8, 250)
    for slot in ("mu", "nu"):
        tree["opt_state"][0][slot]["params"]["token_embedder"]["embedding"] = np.ones((8, 250), np.float32) / 3
    tree["nnx_aux"] = {"model": {"decoder": {"rngs": {"params": {"key": jax.random.key(9)}}}}, "tag": "seventh"}
    saved(folder, tree)
    # Orbax leaves nodes of its index behind the values; here a data file ends with a value.
    found = [value for value in read_index(folder).values() if isinstance(value, Extent)]
    for file in {value.file for value in found}:
        end = max(value.offset + value.length for value in found if value.file == file)
        (folder / file).write_bytes((folder / file).read_bytes()[:end])
    return folder


@pytest.fixture
def spoilt(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "spoilt")


REAL = (
    "checkpoints/pr3846__llama2_scan_nnx",
    "checkpoints/pr3846__llama2_unscan_nnx",
    "checkpoints/pr3846__mixtral_unscan_nnx",
    "checkpoints/v024__llama2_8dev_scan_linen",
    "checkpoints/v024__llama2_scan_linen",
    "checkpoints/v024__llama2_scan_nnx",
    "checkpoints/v024__llama2_unscan_linen",
    "checkpoints/v024__llama2_unscan_nnx",
    "checkpoints/v024__mixtral_scan_linen",
    "checkpoints/v024__mixtral_scan_nnx",
    "reference/deepseek2real_scan_nnx/checkpoint/2",
    "reference/gemma2w16_scan_linen/checkpoint/2",
    "reference/llama2_unscan_nnx/checkpoint/2",
    "reference/llama31real_scan_linen/checkpoint/2",
    "reference/mixtralreal_scan_linen/checkpoint/2",
    "reference/qwen3real_unscan_linen/checkpoint/2",
)


@pytest.fixture(params=REAL, ids=[name.split("/")[1] if "reference" in name else name.split("/")[-1] for name in REAL])
def real(request, maxtext):
    """Each checkpoint that MaxText wrote, read-only."""
    folder = maxtext("checkpoints").parent / request.param
    assert folder.is_dir(), f"{folder} is no folder: HARNESS_DATA holds no such checkpoint"
    return folder
