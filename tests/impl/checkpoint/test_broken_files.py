"""Files that are cut, flipped or gone, and metadata that lies: one sentence that names the leaf or file, or no harm."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from impl.checkpoint import CheckpointError, Request, convert_as, inspect, save_tree
from impl.checkpoint.index import Extent, Inline, read_index
from impl.checkpoint.index_writer import write_index
from tests.impl.checkpoint.saving import restored, saved


def attempt(source, target, **options):
    options = {"to": "auto", "layout": "keep", "scan_axis": 1} | options
    return convert_as(Request(source=source, target=target, **options), lambda moved, total: None)


@pytest.fixture(scope="session")
def whole(tmp_path_factory, linen_tree):
    """A checkpoint of every kind of file: typed keys, a string, values in data files and in the index."""
    import jax

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


def refusal(ask):
    """The one line that `ask` is refused with, "" when it is not. Any other error is one."""
    try:
        ask()
    except CheckpointError as problem:
        words = str(problem)
        return words if "\n" not in words and len(words) < 900 else pytest.fail(words)
    return ""


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
    file = data_file(spoilt)
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
    assert "scan_layers is noted as False, and the layers are stacked" in inspect(tmp_path / "tree").notes


def mutations(rng, text):
    """One small change of a file: a byte, a stretch or a word."""
    at = int(rng.integers(len(text)))
    kind = int(rng.integers(6))
    if kind == 0:
        return text[:at] + bytes([int(rng.integers(256))]) + text[at + 1 :]
    if kind == 1:
        return text[:at] + text[at + int(rng.integers(1, 60)) :]
    if kind == 2:
        return text[:at] + text[at : at + 40] + text[at:]
    words = (b"null", b"[]", b"{}", b"-1", b'""', b"1e999", b'"\\u0000"', b"NaN", b'".."', b"[[[[", b"true")
    word = words[int(rng.integers(len(words)))]
    if kind == 3:
        return text[:at] + word + text[at:]
    ends = [place for place in range(at, len(text)) if text[place : place + 1] in b",:]}"]
    end = ends[0] if ends else len(text)
    return text[:at] + word + text[end:]


def test_no_mutation_of_a_metadata_file_is_a_crash(spoilt):
    rng = np.random.default_rng(20261121)
    names = ("_METADATA", "_sharding", "_strings.json", "_CHECKPOINT_METADATA", "array_metadatas/process_0")
    texts = {name: (spoilt / name).read_bytes() for name in names}
    refused = 0
    for number in range(200):
        name = names[(0, 0, 0, 1, 2, 3, 4)[number % 7]]
        (spoilt / name).write_bytes(mutations(rng, texts[name]))
        refused += bool(refusal(lambda: inspect(spoilt)))
        (spoilt / name).write_bytes(texts[name])
    assert refused > 100


def test_no_mutation_of_an_array_s_metadata_is_a_crash(spoilt, tmp_path):
    rng = np.random.default_rng(7)
    index = dict(read_index(spoilt))
    keys = [key for key in index if key.endswith(".zarray")]
    for _ in range(60):
        key = keys[int(rng.integers(len(keys)))]
        text = mutations(rng, index[key].data)
        (spoilt / "manifest.ocdbt").unlink()
        write_index(spoilt, {**index, key: Inline(text)})
        words = refusal(lambda: attempt(spoilt, tmp_path / "out"))
        assert (tmp_path / "out").exists() is not bool(words)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
