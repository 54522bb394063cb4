"""Checkpoints that MaxText wrote: sealed, checked, converted by their index, and compared without being decoded."""

from __future__ import annotations

import shutil

import pytest

from impl.checkpoint import Terms, check, checksum, compare_under, convert, inspect
from impl.checkpoint.progress import untold
from impl.checkpoint.storage.sides import Side
from tests.impl.checkpoint.conftest import REAL

CHOSEN = [name for name in REAL if name.split("/")[1].startswith(("pr3846__mixtral", "v024__llama2", "deepseek2real"))]


@pytest.mark.parametrize("real", CHOSEN, indirect=True)
def test_a_real_checkpoint_is_sealed_and_compared_by_its_bytes(real, tmp_path, monkeypatch):
    folder = shutil.copytree(real, tmp_path / "copy")
    path, manifest = checksum(folder, untold)
    stacked = [leaf for leaf in manifest.leaves.values() if leaf.layers]
    assert bool(stacked) == any("stacked" in words for words in inspect(folder).layout.values())
    assert all(leaf.values for leaf in manifest.leaves.values() if leaf.dtype != "NoneType")
    assert check(folder, untold).findings == ()
    decoded = []
    real_stored = Side._stored
    monkeypatch.setattr(Side, "_stored", lambda self, path, box: decoded.append(path) or real_stored(self, path, box))
    convert(real, tmp_path / "there", to="auto", layout="keep", scan_axis=1)
    record = compare_under(real, tmp_path / "there", Terms(values="values"), untold)
    assert record.equal
    # A renamed leaf keeps its bytes. The step alone is of another dtype in the other dialect.
    assert {path[-1] for path in decoded} <= {"step"}
    assert {row.part for row in record.not_compared} <= {"state"}
    assert str(path.parent) == inspect(folder).items
