"""A conversion by the index: which bytes it writes, which it shares, and that Orbax reads every leaf back bit-equal."""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from impl.checkpoint import Request, convert_as, convert_in_memory, load_tree, save_tree
from impl.checkpoint.leaves.leaf import same_bytes
from impl.checkpoint.leaves.tree import flatten
from impl.checkpoint.storage.index import Extent, read_index
from impl.checkpoint.storage.index_writer import write_index
from tests.impl.checkpoint.saving import FORMS, restored, saved

DTYPES = ("float32", "bfloat16", "float8_e4m3fn", "int8")


def carried(source, target, **options):
    options = {"to": "D1", "layout": "scanned", "scan_axis": 1} | options
    return convert_as(Request(source=source, target=target, **options), lambda moved, total: None)


def model(draw, depth=5, shape=(40, 30), dtype="float32", array=np.asarray):
    """A Linen parameter tree; what `array` makes of its leaves."""

    def leaf(name):
        return array(draw(name, shape).astype(ml_dtypes.float8_e4m3fn if "float8" in dtype else np.dtype(dtype)))

    layers = {f"layers_{index}": {"mlp": {"kernel": leaf(f"k{index}")}} for index in range(depth)}
    return {"params": {"params": {"decoder": layers | {"norm": leaf("norm")}}}, "step": np.array(7, np.int32)}


def layers_of(tree):
    decoder = tree["params"]["params"]["decoder"]
    names = sorted((name for name in decoder if "_" in name), key=lambda name: int(name.rpartition("_")[2]))
    return [np.asarray(decoder[name]["mlp"]["kernel"]) for name in names]


def kernel(tree):
    return np.asarray(tree["params"]["params"]["decoder"]["layers"]["mlp"]["kernel"])


def same(left, right):
    assert (left.dtype, left.shape, left.tobytes()) == (right.dtype, right.shape, right.tobytes())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("axis", [0, 1])
def test_layers_are_stacked_and_unstacked_without_their_bytes(tmp_path, draw, form, axis):
    tree = model(draw)
    saved(tmp_path / "apart", tree, form)
    report = carried(tmp_path / "apart", tmp_path / "stacked", scan_axis=axis)
    assert (report.transfer.made_leaves, report.transfer.mode) == (0, "link")
    assert report.transfer.kept_leaves + report.transfer.inline_leaves == 3
    same(kernel(restored(tmp_path / "stacked")), np.stack(layers_of(tree), axis))
    back = carried(tmp_path / "stacked", tmp_path / "back", layout="unscanned", scan_axis=axis)
    assert back.transfer.made_leaves == 0
    for mine, other in zip(layers_of(restored(tmp_path / "back")), layers_of(tree), strict=True):
        same(mine, other)


@pytest.mark.parametrize("form", FORMS)
def test_a_stack_in_one_chunk_is_cut_leaf_by_leaf(tmp_path, draw, form):
    stacked = np.stack(layers_of(model(draw)), 1)
    tree = {"params": {"params": {"decoder": {"layers": {"mlp": {"kernel": stacked}}}}}}
    saved(tmp_path / "stacked", tree, form)
    report = carried(tmp_path / "stacked", tmp_path / "apart", layout="unscanned", verify="values")
    assert (report.transfer.made_leaves, report.verified) == (5, 5)
    if form == "zarr2 plain":
        assert report.transfer.made_bytes == stacked.nbytes
    for index, layer in enumerate(layers_of(restored(tmp_path / "apart"))):
        same(layer, stacked[:, index])


@pytest.mark.parametrize(("form", "made"), [("zarr2 plain", 0), ("zarr2", 5)])
def test_plain_layers_that_lie_behind_each_other_are_cut_by_the_index(tmp_path, draw, form, made):
    stacked = np.stack(layers_of(model(draw)), 0)
    saved(tmp_path / "stacked", {"params": {"params": {"decoder": {"layers": {"mlp": {"kernel": stacked}}}}}}, form)
    report = carried(tmp_path / "stacked", tmp_path / "apart", layout="unscanned", scan_axis=0)
    assert report.transfer.made_leaves == made
    for index, layer in enumerate(layers_of(restored(tmp_path / "apart"))):
        same(layer, stacked[index])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["zarr2", "zarr3"])
def test_many_chunks_of_every_dtype_keep_their_bytes(tmp_path, draw, form, dtype):
    tree = model(draw, shape=(48, 64), dtype=dtype, array=jnp.asarray)
    saved(tmp_path / "apart", tree, form, chunk_bytes=1024)
    chunks = [key for key in read_index(tmp_path / "apart") if "layers_3" in key]
    assert len(chunks) > 3
    report = carried(tmp_path / "apart", tmp_path / "stacked")
    assert report.transfer.made_leaves == 0
    same(kernel(restored(tmp_path / "stacked")), np.stack(layers_of(tree), 1))
    carried(tmp_path / "stacked", tmp_path / "back", layout="unscanned")
    for mine, other in zip(layers_of(restored(tmp_path / "back")), layers_of(tree), strict=True):
        same(mine, other)


@pytest.mark.parametrize(("apart", "to", "layout"), [(-1, "nnx", "scanned"), (1, "D4", "unscanned"), (0, "D2", "keep")])
def test_the_conversion_that_loads_everything_gives_the_same(tmp_path, linen_tree, apart, to, layout):
    save_tree(tmp_path / "from", linen_tree(4, apart))
    convert_in_memory(tmp_path / "from", tmp_path / "slow", to=to, layout=layout, scan_axis=1)
    carried(tmp_path / "from", tmp_path / "fast", to=to, layout=layout)
    slow, fast = (flatten(load_tree(tmp_path / name)) for name in ("slow", "fast"))
    assert (set(slow.leaves), slow.lists) == (set(fast.leaves), fast.lists)
    assert [path for path, leaf in slow.leaves.items() if not same_bytes(leaf, fast.leaves[path])] == []


def new_bytes(folder):
    files = [file for file in folder.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files if file.stat().st_nlink == 1)


def test_linked_leaves_cost_the_same_however_large_they_are(tmp_path, draw):
    written = {}
    for width in (30, 3000):
        source, target = tmp_path / f"from{width}", tmp_path / f"to{width}"
        saved(source, model(draw, shape=(40, width)))
        report = carried(source, target)
        linked = {value.file for value in read_index(target).values() if isinstance(value, Extent)}
        assert {(source / file).stat().st_ino for file in linked} == {(target / file).stat().st_ino for file in linked}
        assert report.transfer.kept_bytes > 100 * width
        written[width] = new_bytes(target)
    assert written[3000] - written[30] < 200
    assert written[30] < 8000


def test_a_copy_shares_nothing_and_outlives_its_source(tmp_path, draw):
    tree = model(draw)
    saved(tmp_path / "apart", tree)
    moves = []
    request = Request(
        source=tmp_path / "apart", target=tmp_path / "copy", to="D1", layout="scanned", scan_axis=1, mode="copy"
    )
    report = convert_as(request, lambda moved, total: moves.append((moved, total)))
    assert {file.stat().st_nlink for file in (tmp_path / "copy").rglob("*") if file.is_file()} == {1}
    assert sum(moved for moved, _ in moves) == moves[0][1] == report.transfer.file_bytes
    for file in sorted((tmp_path / "apart").rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    same(kernel(restored(tmp_path / "copy")), np.stack(layers_of(tree), 1))


def test_a_copy_holds_what_is_needed_alone(tmp_path, draw):
    tree = {"params": {"params": {"decoder": {"layers": {"mlp": {"kernel": np.stack(layers_of(model(draw)), 1)}}}}}}
    tree["params"]["params"]["decoder"] |= {"norm": draw("norm", (50, 20)), "other": draw("other", (60, 30))}
    tree["params"]["params"]["token_embedder"] = {"embedding": draw("embedding", (70, 40))}
    source = saved(tmp_path / "stacked", tree, "zarr2 plain")
    report = carried(source, tmp_path / "apart", layout="unscanned", mode="copy", verify="values")
    assert (report.transfer.kept_leaves, report.transfer.made_leaves) == (3, 5)
    assert report.transfer.kept_bytes == 4 * (50 * 20 + 60 * 30 + 70 * 40)
    assert report.transfer.kept_bytes <= report.transfer.file_bytes < 1.2 * report.transfer.kept_bytes
    found = restored(tmp_path / "apart")["params"]["params"]
    same(np.asarray(found["decoder"]["norm"]), tree["params"]["params"]["decoder"]["norm"])
    same(np.asarray(found["token_embedder"]["embedding"]), tree["params"]["params"]["token_embedder"]["embedding"])
    written = sum(file.stat().st_size for file in (tmp_path / "apart" / "ocdbt.process_0").rglob("d/*"))
    assert written == report.transfer.file_bytes + report.transfer.made_bytes


def test_files_of_several_processes_are_found(tmp_path, draw):
    tree = model(draw)
    saved(tmp_path / "one", tree)
    index = read_index(tmp_path / "one")
    (tmp_path / "one" / "ocdbt.process_7" / "d").mkdir(parents=True)
    moved = {}
    for number, (key, value) in enumerate(index.items()):
        if isinstance(value, Extent) and number % 4 == 1:
            file = f"ocdbt.process_7/d/{number:032x}"
            data = (tmp_path / "one" / value.file).read_bytes()[value.offset : value.offset + value.length]
            (tmp_path / "one" / file).write_bytes(b"before" + data)
            moved[key] = Extent(file, 6, len(data))
    assert len(moved) >= 2
    (tmp_path / "one" / "manifest.ocdbt").unlink()
    write_index(tmp_path / "one", {**index, **moved})
    same(layers_of(restored(tmp_path / "one"))[2], layers_of(tree)[2])
    carried(tmp_path / "one", tmp_path / "out")
    same(kernel(restored(tmp_path / "out")), np.stack(layers_of(tree), 1))
    assert sorted(path.name for path in (tmp_path / "out").glob("ocdbt*")) == ["ocdbt.process_0", "ocdbt.process_7"]


def test_other_kinds_of_leaves_keep_what_they_are(tmp_path, draw):
    tree = model(draw)
    keys = jax.random.split(jax.random.key(3, impl="rbg"), 5)
    rngs = {f"layers_{index}": {"rngs": {"params": {"key": keys[index]}}} for index in range(5)}
    tree["opt_state"] = {
        "name": "lion",
        "rate": 0.125,
        "on": True,
        "none": None,
        "nothing": {},
        "list": [[], np.int8(3)],
    }
    saved(tmp_path / "from", tree | {"nnx_aux": {"model": {"decoder": rngs}}})
    (tmp_path / "from" / "remarks.txt").write_text("mine")
    report = carried(tmp_path / "from", tmp_path / "to", to="D2", verify="values")
    found = restored(tmp_path / "to")
    assert found["opt_state"] == tree["opt_state"]
    assert [type(found["opt_state"][name]) for name in ("rate", "on")] == [float, bool]
    key = found["nnx_aux"]["model"]["decoder"]["layers"]["rngs"]["params"]["key"]
    assert str(key.dtype) == "key<rbg>"
    same(np.asarray(jax.random.key_data(key)), np.asarray(jax.random.key_data(keys)))
    assert any(note.startswith("remarks.txt lie beside the tree") for note in report.notes)
    assert report.verified == report.leaves - 4  # the string and three that are empty


def test_links_that_cannot_be_made_become_copies_or_an_error(tmp_path, draw, monkeypatch):
    saved(tmp_path / "from", model(draw))

    def refuse(*arguments, **options):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert carried(tmp_path / "from", tmp_path / "to").transfer.mode == "copy"
    with pytest.raises(ValueError, match=r"no hard link to .* can be made \(Invalid cross-device link\)"):
        carried(tmp_path / "from", tmp_path / "other", mode="link")
    assert not (tmp_path / "other").exists()
