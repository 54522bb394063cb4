"""Digests do not depend on chunks and layouts, and a conversion carries them over. Letters: E 20, M 30, L 4 layers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from impl.checkpoint import CheckpointError, check, convert
from impl.checkpoint.checksums.lineage import Made, Part, carried, untraced
from impl.checkpoint.checksums.manifest import Manifest, write_manifest
from impl.checkpoint.checksums.sealing import NOTHING, sealed
from impl.checkpoint.progress import untold
from impl.checkpoint.storage.sides import Side
from tests.impl.checkpoint.orbax_writing import write

KERNEL = np.random.default_rng(5).standard_normal((20, 4, 30)).astype(np.float32)
LAYER = 20 * 30 * 4  # bytes of one layer
W = "params/params/decoder/layers/w"
S = "params/params/decoder/layers/s"


def layer_name(index):
    return f"params/params/decoder/layers_{index}/w"


@pytest.fixture(scope="module", params=["zarr2", "zarr3"])
def stores(request, tmp_path_factory):
    """One model in four forms: one chunk a stack, one chunk a layer, pieces of rows, layers apart."""
    folder, zarr3 = tmp_path_factory.mktemp(request.param), request.param == "zarr3"
    stack = {"params": {"params": {"decoder": {"layers": {"w": KERNEL, "s": KERNEL[5].T.copy()}}}}, "step": np.int32(3)}
    layers = {f"layers_{i}": {"w": KERNEL[:, i].copy(), "s": KERNEL[5, i].copy()} for i in range(4)}
    write(folder / "whole", stack, zarr3=zarr3)
    write(folder / "layered", stack, zarr3=zarr3, piece=LAYER, axes=(1,))
    write(folder / "rows", stack, zarr3=zarr3, piece=480, axes=(0,))
    write(folder / "apart", {"params": {"params": {"decoder": layers}}, "step": np.int32(3)}, zarr3=zarr3)
    return folder


def plan(*, chunks, stacking):
    """What each leaf is made of, when layers are stacked (or taken apart) along axis 1."""
    wide, one = {"shape": (20, 4, 30), "dtype": "float32"}, {"shape": (20, 30), "dtype": "float32"}
    if stacking:
        parts = tuple(Part(leaf=layer_name(index)) for index in range(4))
        return {W: Made(**wide, origins=parts, axis=1, chunks=chunks)}
    return {
        layer_name(index): Made(**one, origins=(Part(leaf=W, axis=1, index=index),), chunks=chunks)
        for index in range(4)
    }


def test_digests_of_values_are_those_of_the_layers_in_every_form(stores):
    forms = {name: sealed(stores / name, NOTHING, untold).leaves for name in ("whole", "layered", "rows", "apart")}
    wholes = [forms[name][W] for name in ("whole", "layered", "rows")]
    assert len({leaf.values for leaf in wholes}) == 1
    layers = tuple(forms["apart"][layer_name(index)].values for index in range(4))
    assert [leaf.layers for leaf in wholes] == [{"1": layers}] * 3
    assert [len(leaf.chunks) for leaf in wholes] == [1, 4, 20]
    assert len({tuple(leaf.chunks.values()) for leaf in wholes}) == 3
    assert forms["layered"][W].chunks["0.2.0"] == forms["apart"][layer_name(2)].chunks["0.0"]
    assert {leaves["step"].values for leaves in forms.values()} == {forms["whole"]["step"].values}


@pytest.mark.parametrize(("left", "right"), [("apart", "layered"), ("layered", "apart")])
def test_what_is_carried_over_re_indexed_chunks_is_what_reading_finds(stores, left, right, monkeypatch):
    source = sealed(stores / left, NOTHING, untold)
    known = carried(source, plan(chunks="same", stacking=right == "layered"))
    read = sealed(stores / right, NOTHING, untold)
    decoded = []
    real = Side._stored
    monkeypatch.setattr(Side, "_stored", lambda self, path, region: decoded.append(path) or real(self, path, region))
    found = sealed(stores / right, known, untold)
    assert not [path for path in decoded if path[-1] == "w"]
    for name, leaf in known.leaves.items():
        # The stack as one leaf was never read, so only its layers are known.
        values = "" if right == "layered" else read.leaves[name].values
        assert found.leaves[name] == replace(read.leaves[name], values=values, made_of=leaf.made_of)
        assert [trace.digest for trace in leaf.made_of] == [
            source.leaves[trace.leaf].layers["1"][trace.index] if trace.axis >= 0 else source.leaves[trace.leaf].values
            for trace in leaf.made_of
        ]
    # What the plan did not name is traced to nothing.
    assert set(untraced(source, found)) == set(found.leaves) - set(known.leaves)


def test_leaves_that_were_written_anew_are_traced_too(stores):
    source = sealed(stores / "whole", NOTHING, untold)
    found = sealed(stores / "apart", carried(source, plan(chunks="new", stacking=False)), untold)
    assert not any("/w" in name for name in untraced(source, found))
    shifted = plan(chunks="new", stacking=False)
    shifted[layer_name(0)], shifted[layer_name(1)] = shifted[layer_name(1)], shifted[layer_name(0)]
    read = sealed(stores / "apart", NOTHING, untold)
    wrong = carried(source, shifted)
    claims = {name: replace(read.leaves[name], made_of=leaf.made_of) for name, leaf in wrong.leaves.items()}
    assert untraced(source, Manifest(leaves=claims, files={})) == (layer_name(0), layer_name(1))


def test_a_conversion_that_lost_a_value_does_not_pass_with_the_sources_digests(stores, tmp_path):
    changed = KERNEL.copy()
    changed[3, 2, 1] += 1
    layers = {f"layers_{i}": {"w": changed[:, i].copy()} for i in range(4)}
    write(tmp_path / "wrong", {"params": {"params": {"decoder": layers}}}, zarr3="zarr3" in str(stores))
    source = sealed(stores / "layered", NOTHING, untold)
    known = carried(source, plan(chunks="same", stacking=False))
    write_manifest(tmp_path / "wrong", sealed(tmp_path / "wrong", known, untold))
    (row,) = check(tmp_path / "wrong", untold).findings
    assert (row.name, row.kind) == (layer_name(2), "values")


def test_a_linked_conversion_keeps_every_digest(stores, tmp_path):
    source = sealed(stores / "layered", NOTHING, untold)
    convert(stores / "layered", tmp_path / "nnx", to="nnx", layout="keep", scan_axis=1)
    names = {"model/decoder/layers/w": W, "model/decoder/layers/s": S, "optimizer/step": "step"}
    made = {
        name: Made(
            shape=source.leaves[leaf].shape,
            dtype={"step": "uint32"}.get(leaf, "float32"),
            origins=(Part(leaf=leaf),),
            chunks="new" if leaf == "step" else "same",
        )
        for name, leaf in names.items()
    }
    reads = []
    found = sealed(tmp_path / "nnx", carried(source, made), lambda count, total: reads.append(count))
    write_manifest(tmp_path / "nnx", found)
    assert sum(reads) < 100
    assert check(tmp_path / "nnx", untold).findings == ()
    assert untraced(source, found) == ()
    assert (found.source != "", check(tmp_path / "nnx", untold).made_of) == (True, 3)


def test_an_origin_that_the_source_lacks_is_refused():
    made = {"b": Made(shape=(), dtype="float32", origins=(Part(leaf="a"),))}
    with pytest.raises(CheckpointError, match="b: made of a, which the source's manifest lacks"):
        carried(Manifest(leaves={}, files={}), made)
