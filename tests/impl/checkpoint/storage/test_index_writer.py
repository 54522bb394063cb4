"""The index of a store as it is written here is what TensorStore reads, and its checksum is CRC-32C."""

from __future__ import annotations

import numpy as np
import pytest
import tensorstore

from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.storage import index_writer
from impl.checkpoint.storage.crc32c import crc32c
from impl.checkpoint.storage.index import Extent, Inline, read_index


def test_the_checksum_is_the_published_one():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"\0" * 32) == 0x8A9136AA
    assert crc32c(b"") == 0


@pytest.mark.parametrize("length", [1, 3, 4, 5, 63, 64, 65, 1000, 131_071, 131_073])
def test_a_long_checksum_is_that_of_its_bytes_one_by_one(length):
    data = np.random.default_rng(length).bytes(length)
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    assert crc32c(data) == register ^ 0xFFFFFFFF


@pytest.fixture
def entries(tmp_path):
    """Values in two files and in the index, under keys of several lengths, in no order."""
    (tmp_path / "far" / "d").mkdir(parents=True)
    for name, seed in (("one", 3), ("two", 4)):
        (tmp_path / "far" / "d" / name).write_bytes(np.random.default_rng(seed).bytes(5000))
    found = {}
    for number in reversed(range(700)):
        found[f"model.layers.{number}.kernel/.zarray"] = Inline(b'{"shape":[%d]}' % number)
        found[f"model.layers.{number}.kernel/0.{number}"] = Extent(f"far/d/{('one', 'two')[number % 2]}", number, 301)
    return found | {"a": Inline(b""), "zz" * 300: Inline(b"\xff" * 900)}


@pytest.mark.parametrize("limit", [100_000, 97], ids=["one node", "two levels"])
def test_tensorstore_reads_what_is_written_and_goes_on_from_it(tmp_path, entries, monkeypatch, limit):
    monkeypatch.setattr(index_writer, "NODE_ENTRIES", limit)
    index_writer.write_index(tmp_path, entries)
    assert read_index(tmp_path) == dict(sorted(entries.items()))
    base = tensorstore.KvStore.open(f"file://{tmp_path}/").result()
    version = tensorstore.ocdbt.dump(base).result()["versions"][0]
    assert version["root_height"] == (limit == 97)
    assert version["root"]["statistics"]["num_keys"] == 1402
    assert version["root"]["statistics"]["num_indirect_value_bytes"] == 700 * 301
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": f"file://{tmp_path}/"}).result()
    assert store["model.layers.3.kernel/0.3"] == (tmp_path / "far/d/two").read_bytes()[3:304]
    assert store["a"] == b""
    store["model.layers.3.kernel/0.3"] = b"another" * 500
    del store["a"]
    after = read_index(tmp_path)
    assert (len(after), after["model.layers.3.kernel/0.3"].length) == (1401, 3500)


def test_a_flipped_byte_of_the_index_is_seen(tmp_path, entries):
    node, manifest = index_writer.write_index(tmp_path, entries)
    for file in (node, manifest):
        whole = file.read_bytes()
        file.write_bytes(whole[:-9] + bytes([whole[-9] ^ 4]) + whole[-8:])
        with pytest.raises(CheckpointError, match=r"(?i)its index cannot be read.*(crc|checksum|corruption|decoding)"):
            read_index(tmp_path)
        file.write_bytes(whole)


def test_a_key_that_is_too_long_is_refused(tmp_path):
    with pytest.raises(ValueError, match="70000 bytes, at most 65535"):
        index_writer.write_index(tmp_path, {"k" * 70_000: Inline(b"x")})


def test_a_node_outside_of_the_store_is_not_read(tmp_path, monkeypatch):
    class Climbing:
        hex, bytes = "../../outside", b"\1" * 16

    (tmp_path / "a" / "store" / "d").mkdir(parents=True)
    monkeypatch.setattr(index_writer.uuid, "uuid4", Climbing)
    index_writer.write_index(tmp_path / "a" / "store", {"k": Inline(b"v")})
    assert (tmp_path / "a" / "outside").is_file()
    with pytest.raises(CheckpointError, match="expected a file below the store"):
        read_index(tmp_path / "a" / "store")
