"""An index, a tree and notes that do not say what is there: one sentence that names it, and nothing written."""

from __future__ import annotations

import json

import pytest

from impl.checkpoint import CheckpointError, entropy, inspect, save_tree
from impl.checkpoint.storage.index import Extent, Inline, read_index
from impl.checkpoint.storage.index_writer import write_index
from tests.impl.checkpoint.saving import attempt


def rewritten(folder, change):
    index = dict(read_index(folder))
    change(index)
    (folder / "manifest.ocdbt").unlink()
    write_index(folder, index)


def missing_chunk(index):
    del index["params.params.token_embedder.embedding/0.0"]


def chunk_outside(index):
    index["params.params.token_embedder.embedding/3.0"] = Inline(b"x")


def missing_metadata(index):
    del index["params.params.token_embedder.embedding/.zarray"]


def missing_leaf(index):
    missing_metadata(index)
    missing_chunk(index)


def extra_leaf(index):
    for key in (".zarray", "0.0"):
        index[f"params.params.other/{key}"] = index[f"params.params.token_embedder.embedding/{key}"]


def climbing(index):
    index["params.params.token_embedder.embedding/0.0"] = Extent("../../../etc/passwd", 0, 40)


def absolute(index):
    index["params.params.token_embedder.embedding/0.0"] = Extent("/etc/passwd", 0, 40)


def strange_key(index):
    index["../../escape/.zarray"] = Inline(b"{}")


def edited(**changes):
    def change(index):
        key = "params.params.token_embedder.embedding/.zarray"
        index[key] = Inline(json.dumps({**json.loads(index[key].data), **changes}).encode())

    change.__name__ = "edited " + " ".join(changes)
    return change


INDEXES = [
    (missing_chunk, r"token_embedder.embedding: the chunk at \(0, 0\) is missing"),
    (chunk_outside, r"token_embedder.embedding: a chunk at \(3, 0\)"),
    (missing_metadata, "token_embedder.embedding: chunks without metadata"),
    (missing_leaf, "params/params/token_embedder/embedding: 1 leaves like this are in _METADATA and not in the store"),
    (extra_leaf, "params.params.other: 1 arrays like this are in the store and not in _METADATA"),
    (climbing, "expected a file below the store"),
    (absolute, "expected a file below the store"),
    (strange_key, "escape"),
    (edited(shape=[8]), "expected one rank"),
    (edited(shape=[10**12, 10**12]), r"token_embedder.embedding: the chunk at \(0, 1\) is missing"),
    (edited(dtype="<q9"), "the dtype '<q9' is not known"),
    (edited(chunks=[0, 0]), "expected one rank"),
    (edited(shape=None), "lacks a shape, chunks or dtype"),
    (edited(compressor=None), "embedding: the chunk at .* bytes, shape .* has 8000"),
]


@pytest.mark.parametrize(("change", "words"), INDEXES, ids=[change.__name__ for change, _ in INDEXES])
def test_an_index_that_lies(spoilt, tmp_path, change, words):
    rewritten(spoilt, change)
    for ask in (inspect, lambda source: attempt(source, tmp_path / "out")):
        with pytest.raises(CheckpointError, match=words):
            ask(spoilt)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spoilt"]


def test_a_data_file_that_is_a_link_out_of_the_folder(spoilt, tmp_path):
    file = spoilt / next(value.file for value in read_index(spoilt).values() if isinstance(value, Extent))
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="leads out of the checkpoint"):
        inspect(spoilt)


def named(*keys):
    entry = {"key_metadata": [{"key": key, "key_type": 2} for key in keys]}
    return {"x": entry | {"value_metadata": {"value_type": "np.ndarray", "skip_deserialize": False}}}


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (named("params", "..", "etc"), r"has the key '\.\.'"),
        (named("params", "/etc/passwd"), "has the key '/etc/passwd'"),
        (named("params", ""), "has the key ''"),
        (named("params", "a\0b"), "has the key"),
        (named(*["deep"] * 1000), "1000 levels deep, at most 256"),
        (named(), "has no name"),
        ({**named("a"), "y": named("a")["x"]}, "is there twice"),
        ({"x": {"key_metadata": 3}}, "cannot be read"),
        ([], "cannot be read"),
    ],
)
def test_a_tree_of_hostile_names(spoilt, entries, words):
    (spoilt / "_METADATA").write_text(json.dumps({"tree_metadata": entries, "use_zarr3": False}))
    with pytest.raises(CheckpointError, match=words):
        inspect(spoilt)


def test_json_that_is_nested_without_end(spoilt):
    (spoilt / "_METADATA").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="_METADATA: cannot be read"):
        inspect(spoilt)


def test_layers_that_weights_and_slots_do_not_share(tmp_path, linen_tree):
    tree = linen_tree(3, -1)
    del tree["opt_state"][0]["mu"]["params"]["decoder"]["layers_2"]
    save_tree(tmp_path / "fewer", tree)
    tree = linen_tree(3, -1)
    tree["opt_state"][0]["mu"]["params"]["decoder"]["layers_3"] = tree["opt_state"][0]["mu"]["params"]["decoder"][
        "layers_2"
    ]
    save_tree(tmp_path / "more", tree)
    tree = linen_tree(3, 1)
    tree["opt_state"][0]["nu"] = linen_tree(4, 1)["opt_state"][0]["nu"]
    save_tree(tmp_path / "other", tree)
    words = {
        "fewer": r"slot 0/mu: decoder/layers_\*/mlp/wi_0/kernel is there for the layers \[0, 1\], .* for \[0, 1, 2\]",
        "more": "slot 0/mu: 0/mu/params/decoder/layers_3/mlp/wi_0/kernel and 5 other leaves mirror no weight",
        "other": "slot 0/nu: decoder/layers/mlp/wi_0/kernel has 4 layers, its weight has 3",
    }
    for name, sentence in words.items():
        with pytest.raises(CheckpointError, match=sentence):
            attempt(tmp_path / name, tmp_path / "out")
        assert any(note.startswith("slot 0/") for note in inspect(tmp_path / name).notes)


def test_a_note_that_contradicts_the_tree_is_told(tmp_path, linen_tree):
    save_tree(tmp_path / "tree", linen_tree(3, 1))
    file = tmp_path / "tree" / "_CHECKPOINT_METADATA"
    file.write_text(json.dumps({**json.loads(file.read_text()), "custom_metadata": {"scan_layers": False}}))
    words = "scan_layers is noted as False, and the layers are stacked: the tree was believed"
    assert words in inspect(tmp_path / "tree").notes
    assert words in attempt(tmp_path / "tree", tmp_path / "out").notes
    assert inspect(tmp_path / "out").custom_metadata == {"scan_layers": True}


def test_a_shape_that_cannot_be_is_refused_though_chunks_may_be_absent(spoilt):
    file = spoilt / "_METADATA"
    file.write_text(json.dumps({**json.loads(file.read_text()), "store_array_data_equal_to_fill_value": False}))
    rewritten(spoilt, edited(shape=[10**9, 10**9], fill_value=0.0))
    for verb in (inspect, lambda source: entropy(source, source.with_name("out"))):
        with pytest.raises(CheckpointError, match=r"embedding: shape \(1000000000, 1000000000\) .* are believed"):
            verb(spoilt)
