"""Files that are cut, flipped or gone: one sentence that names the leaf or file, or no harm."""

from __future__ import annotations

import pytest

from impl.checkpoint import inspect
from impl.checkpoint.storage.index import Extent, read_index
from tests.impl.checkpoint.saving import attempt, refusal, restored


def data_file(folder):
    return folder / next(value.file for value in read_index(folder).values() if isinstance(value, Extent))


def node_file(folder):
    return next((folder / "d").iterdir())


def cut(file):
    file.write_bytes(file.read_bytes()[:-1])


def halved(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def gone(file):
    file.unlink()


def flipped(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 16
    file.write_bytes(bytes(data))


FILES = {
    "tree": lambda folder: folder / "_METADATA",
    "sharding": lambda folder: folder / "_sharding",
    "strings": lambda folder: folder / "_strings.json",
    "step": lambda folder: folder / "_CHECKPOINT_METADATA",
    "keys": lambda folder: folder / "array_metadatas" / "process_0",
    "manifest": lambda folder: folder / "manifest.ocdbt",
    "node": node_file,
    "data": data_file,
}
HARMLESS = {("gone", "sharding"), ("gone", "step")}
"""Orbax restores without these, and so nothing is lost."""
UNSEEN = {("flipped", "data"): "nothing beside the data says what it should be; `harness checksum` does"}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", [cut, halved, gone, flipped])
def test_each_kind_of_file(spoilt, tmp_path, harm, name):
    if (harm.__name__, name) in UNSEEN:
        return
    file = FILES[name](spoilt)
    harm(file)
    if (harm.__name__, name) in HARMLESS:
        attempt(spoilt, tmp_path / "out")
        assert restored(tmp_path / "out")["model"]["token_embedder"]["embedding"][0, 0] == 999.5
        return
    for ask in (inspect, lambda source: attempt(source, tmp_path / "out")):
        words = refusal(lambda: ask(spoilt))
        if words:
            assert any(part in words for part in (str(spoilt), "embedding", "nnx_aux/tag", "params/")), words
        else:
            # A flipped letter of a text that means nothing to us passes; one of the index never does.
            assert (harm, name) in {(flipped, each) for each in ("tree", "sharding", "strings", "step", "keys")}
    assert not (tmp_path / "out").exists() or harm is flipped
