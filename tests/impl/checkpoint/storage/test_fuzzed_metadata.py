"""Small changes of metadata files, many and without aim: refused in one line, or harmless, and never a crash."""

from __future__ import annotations

import shutil

import numpy as np

from impl.checkpoint import inspect
from impl.checkpoint.storage.index import Inline, read_index
from impl.checkpoint.storage.index_writer import write_index
from tests.impl.checkpoint.saving import attempt, refusal


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
