"""Equal layouts are compared by their encoded bytes, unequal ones by decoding each chunk once; what cannot be read is
said in one sentence. Letters: E 20, M 30, L 4 layers."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import tensorstore

from harness.cli import obeyed
from impl.checkpoint import CheckpointError, Terms, compare_under
from impl.checkpoint.progress import untold
from impl.checkpoint.storage.index import Extent, read_index, stored_arrays
from impl.checkpoint.storage.sides import Side
from tests.impl.checkpoint.orbax_writing import write

VALUES = Terms(values="values")
KERNEL = np.random.default_rng(3).standard_normal((20, 4, 30)).astype(np.float32)
NAME = "params.params.decoder.layers.w"
LAYER, ROW = 20 * 30 * 4, 4 * 30 * 4  # bytes of one layer and of one row of all layers


def stacked(kernel):
    return {"params": {"params": {"decoder": {"layers": {"w": kernel}, "norm": {"scale": kernel[:, 2, 5]}}}}}


def apart(kernel):
    layers = {f"layers_{index}": {"w": kernel[:, index].copy()} for index in range(4)}
    return {"params": {"params": {"decoder": layers | {"norm": {"scale": kernel[:, 2, 5]}}}}}


@pytest.fixture(scope="module", params=["zarr2", "zarr3"])
def stores(request, tmp_path_factory):
    """One model in four forms: one chunk a stack, one chunk a layer, pieces of rows, layers apart."""
    folder, zarr3 = tmp_path_factory.mktemp(request.param), request.param == "zarr3"
    write(folder / "whole", stacked(KERNEL), zarr3=zarr3)
    write(folder / "layered", stacked(KERNEL), zarr3=zarr3, piece=LAYER, axes=(1,))
    write(folder / "rows", stacked(KERNEL), zarr3=zarr3, piece=ROW, axes=(0,))
    write(folder / "apart", apart(KERNEL), zarr3=zarr3)
    return folder


@pytest.fixture
def decoded(monkeypatch):
    """Every piece that a comparison decodes: (file of the side, path, box, bytes)."""
    seen = []
    real = Side._stored

    def record(self, path, region):
        found = real(self, path, region)
        seen.append((self.items, path, tuple((part.start, part.stop) for part in region), found.nbytes))
        return found

    monkeypatch.setattr(Side, "_stored", record)
    return seen


def copied(folder, name):
    return shutil.copytree(folder / name, folder.parent / f"{folder.name}_{name}_copy", dirs_exist_ok=True)


def told():
    calls = []
    return calls, lambda count, total: calls.append((count, total))


@pytest.mark.parametrize("name", ["whole", "layered", "rows", "apart"])
def test_a_copy_is_equal_and_nothing_is_decoded(stores, decoded, name):
    calls, tell = told()
    record = compare_under(stores / name, copied(stores, name), VALUES, tell)
    index = read_index(stores / name)
    arrays = stored_arrays(index)
    bytes_of_both = 2 * sum(
        value.length if isinstance(value, Extent) else len(value.data)
        for array in arrays.values()
        for value in array.chunks.values()
    )
    assert (record.equal, record.compared, decoded) == (True, 5, [])
    assert (sum(count for count, _ in calls), {total for _, total in calls}) == (bytes_of_both, {bytes_of_both})


def test_the_same_file_is_not_read(stores, tmp_path, monkeypatch):
    linked = shutil.copytree(stores / "whole", tmp_path / "linked", copy_function=os.link)
    reads = []
    real = os.preadv
    monkeypatch.setattr(os, "preadv", lambda *words: reads.append(words) or real(*words))
    assert compare_under(stores / "whole", linked, VALUES, told()[1]).equal
    assert reads == []
    assert compare_under(stores / "whole", copied(stores, "whole"), VALUES, told()[1]).equal
    assert len(reads) == 2


def test_chunks_that_hold_one_layer_are_compared_with_layers_that_lie_apart(stores, decoded):
    assert compare_under(stores / "layered", stores / "apart", VALUES, told()[1]).equal
    assert decoded == []


@pytest.mark.parametrize(
    ("left", "right", "pieces"),
    [("whole", "apart", 1 + 4), ("whole", "rows", 1 + 1), ("rows", "apart", 1 + 4), ("layered", "rows", 4 + 1)],
)
def test_other_chunks_are_decoded_once_each(stores, decoded, left, right, pieces):
    assert compare_under(stores / left, stores / right, VALUES, told()[1]).equal
    assert len(set(decoded)) == len(decoded) == pieces


def test_zarr_2_and_zarr_3_and_plain_files_are_compared(tmp_path):
    changed = KERNEL.copy()
    changed[7, 3, 11] += 1
    write(tmp_path / "two", stacked(KERNEL))
    write(tmp_path / "three", stacked(KERNEL), zarr3=True)
    write(tmp_path / "plain", stacked(KERNEL), ocdbt=False)
    write(tmp_path / "changed", apart(changed), ocdbt=False)
    assert compare_under(tmp_path / "two", tmp_path / "three", VALUES, told()[1]).equal
    assert compare_under(tmp_path / "plain", tmp_path / "three", VALUES, told()[1]).equal
    (row,) = compare_under(tmp_path / "three", tmp_path / "changed", VALUES, told()[1]).differences
    assert (row.path, row.gap.first, row.gap.differing, row.size) == ("decoder/layers_3/w", (7, 11), 1, 600)


def test_only_the_chunks_of_a_layer_that_differs_are_decoded(stores, tmp_path, decoded):
    changed = KERNEL.copy()
    changed[19, 2, 29] = np.nan
    changed[0, 2, 0] *= 2
    for name in ("layered", "rows"):
        piece, axes = (LAYER, (1,)) if name == "layered" else (ROW, (0,))
        write(tmp_path / name, stacked(changed), zarr3="zarr3" in stores.name, piece=piece, axes=axes)
        decoded.clear()
        record = compare_under(stores / name, tmp_path / name, VALUES, told()[1])
        (row,) = record.differences
        assert (row.path, row.gap.differing, row.gap.nan) == ("decoder/layers_2/w", 2, 1)
        assert (row.gap.first, row.gap.where) == ((0, 0), (19, 29))
        assert (row.gap.max_abs, row.gap.right) == (np.inf, "nan")
        boxes = {"layered": [((0, 20), (2, 3), (0, 30))], "rows": [((at, at + 1), (0, 4), (0, 30)) for at in (0, 19)]}
        assert sorted(box for _, _, box, _ in decoded) == sorted(2 * boxes[name])


def data_file(folder, name):
    """The file, offset and length of the first chunk of a leaf."""
    chunks = stored_arrays(read_index(folder))[name].chunks
    first = chunks[min(chunks)]
    assert isinstance(first, Extent)
    return folder / first.file, first.offset, first.length


def cut(file, offset, length):
    os.truncate(file, offset + length // 2)


def delete(file, offset, length):
    file.unlink()


def garbage(file, offset, length):
    with file.open("r+b") as stream:
        stream.seek(offset)
        stream.write(b"\xff" * length)


@pytest.mark.parametrize("harm", [cut, delete, garbage])
@pytest.mark.parametrize(("left", "right"), [("whole", "whole"), ("whole", "apart"), ("layered", "apart")])
def test_bytes_that_cannot_be_read_are_one_sentence_and_exit_code_2(stores, tmp_path, capsys, harm, left, right):
    broken = shutil.copytree(stores / left, tmp_path / "broken")
    file, *place = data_file(broken, NAME)
    harm(file, *place)
    for words in ([broken, stores / right], [stores / right, broken]):
        assert obeyed(["compare", "--values", *map(str, words)]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert NAME in said or NAME.replace(".", "/") in said
        assert file.name in said


def test_a_flipped_byte_of_a_value_is_a_difference(tmp_path, capsys):
    write(tmp_path / "whole", stacked(KERNEL), zarr3=True)
    flipped = shutil.copytree(tmp_path / "whole", tmp_path / "flipped")
    file, offset, length = data_file(flipped, NAME)
    with file.open("r+b") as stream:
        stream.seek(offset + length // 3)
        byte = stream.read(1)[0]
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte ^ 4]))
    assert obeyed(["compare", "--values", str(tmp_path / "whole"), str(flipped)]) in (1, 2)
    out, err = capsys.readouterr()
    assert "decoder/layers" in out + err


def test_a_chunk_that_the_index_lacks_is_unreadable(tmp_path, capsys):
    write(tmp_path / "whole", stacked(KERNEL), piece=LAYER, axes=(1,))
    shutil.copytree(tmp_path / "whole", tmp_path / "lacking")
    base = {"driver": "file", "path": f"{tmp_path / 'lacking'}/"}
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
    name = NAME
    store.delete_range(tensorstore.KvStore.KeyRange(f"{name}/0.2", f"{name}/0.3")).result()
    assert obeyed(["compare", "--values", str(tmp_path / "whole"), str(tmp_path / "lacking")]) == 2
    said = capsys.readouterr().err
    assert "params.params.decoder.layers.w: the chunk at (0, 2, 0) is missing" in said


def test_the_same_harm_on_both_sides_is_no_equality(stores, tmp_path):
    broken = shutil.copytree(stores / "whole", tmp_path / "broken")
    file, offset, length = data_file(broken, NAME)
    os.truncate(file, offset + length - 1)
    linked = shutil.copytree(broken, tmp_path / "linked", copy_function=os.link)
    with pytest.raises(CheckpointError, match="it is cut"):
        compare_under(broken, linked, VALUES, told()[1])


def test_an_interruption_ends_the_comparison(stores):
    def interrupted(count, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare_under(stores / "whole", copied(stores, "whole"), VALUES, interrupted)


def test_many_leaves_are_shared_out_and_each_is_compared_once(tmp_path):
    generator = np.random.default_rng(5)
    layers = {f"layers_{index}": {"w": generator.standard_normal((index + 20, 30), np.float32)} for index in range(9)}
    write(tmp_path / "left", {"params": {"params": {"decoder": layers}}})
    write(tmp_path / "right", {"params": {"params": {"decoder": layers}}})
    calls, watch = told()
    assert compare_under(tmp_path / "left", tmp_path / "right", VALUES, watch).compared == 9
    assert len(calls) == 18
    assert sum(count for count, _ in calls) == calls[0][1]
    layers["layers_6"]["w"][25, 29] = np.nan
    layers["layers_2"]["w"][0, 0] = -layers["layers_2"]["w"][0, 0]
    write(tmp_path / "other", {"params": {"params": {"decoder": layers}}})
    rows = compare_under(tmp_path / "left", tmp_path / "other", VALUES, untold).differences
    assert [(row.path, row.gap.first) for row in rows] == [
        ("decoder/layers_2/w", (0, 0)),
        ("decoder/layers_6/w", (25, 29)),
    ]
