"""Random trees: a copy is equal, and one thing that was changed is found and named, and nothing else."""

from __future__ import annotations

import copy
import shutil
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from impl.checkpoint import Terms, check, checksum, compare_under, save_tree
from impl.checkpoint.progress import untold

VALUES = Terms(values="values")
DTYPES = ("float32", "bfloat16", "float16", "int32", "uint8", "bool", "float8_e4m3fn")
NAMES = st.text("abkéW_0", min_size=1, max_size=4)
CHANGES = ("element", "dtype", "shape", "name")


@st.composite
def leaves(draw):
    """{(name, name): array}, values of any bits."""
    names = draw(st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=5, unique=True))
    found = {}
    for name in names:
        shape = tuple(draw(st.lists(st.integers(1, 4), max_size=3)))
        dtype = np.dtype(draw(st.sampled_from(DTYPES)))
        generator = np.random.default_rng(draw(st.integers(0, 2**32)))
        bits = generator.integers(0, 2 if dtype.kind == "b" else 256, (int(np.prod(shape)), dtype.itemsize), np.uint8)
        found[name] = bits.view(dtype).reshape(shape)
    return found


def saved(folder, found):
    model = {}
    for (above, below), leaf in found.items():
        model.setdefault(above, {})[below] = leaf
    save_tree(folder, {"params": {"params": {"decoder": model}}})


def changed(found, name, how, pick):
    """What was changed, and the names and reasons that have to be reported."""
    leaf, path = found[name], "decoder/" + "/".join(name)
    if how == "element":
        flat = np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).copy()
        flat[pick % flat.size] ^= 1
        found[name] = flat.view(leaf.dtype).reshape(leaf.shape)
        return {(path, "value")}
    if how == "dtype":
        found[name] = leaf.astype(np.float64 if leaf.dtype != ml_dtypes.bfloat16 else np.float32)
        return {(path, "dtype")}
    if how == "shape":
        found[name] = np.concatenate([leaf.reshape(-1), leaf.reshape(-1)[:1]])
        return {(path, "shape")}
    found[name[0], name[1] + "Q"] = found.pop(name)
    return {(path, "missing"), (path + "Q", "extra")}


@settings(max_examples=10, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(leaves(), st.sampled_from(CHANGES), st.integers(0, 999))
def test_one_change_is_found_and_named(found, how, pick):
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        saved(folder / "left", found)
        same = compare_under(folder / "left", shutil.copytree(folder / "left", folder / "copy"), VALUES, untold)
        assert (same.equal, same.compared, same.differences) == (True, len(found), ())
        checksum(folder / "left", untold)
        assert check(folder / "left", untold).findings == ()
        right = copy.deepcopy(found)
        wanted = changed(right, sorted(found)[pick % len(found)], how, pick)
        saved(folder / "right", right)
        record = compare_under(folder / "left", folder / "right", VALUES, untold)
        assert {(row.path, row.reason) for row in record.differences} == wanted
        assert all(row.gap.differing == 1 for row in record.differences if row.reason == "value")
        back = compare_under(folder / "right", folder / "left", VALUES, untold)
        assert (back.missing, back.extra, back.differing) == (record.extra, record.missing, record.differing)
