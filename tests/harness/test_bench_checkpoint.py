"""What is measured of checkpoint tools, and how it is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.bench.checkpoint import CheckpointBench, Row
from harness.bench.checkpoint_work import do
from harness.bench.pairs import Ratio
from harness.cli.bench import _checkpoints_text


def test_work_on_checkpoints_is_done_and_told(tmp_path):
    source, target = str(tmp_path / "source"), str(tmp_path / "target")
    shape = {"layers": 2, "width": 16, "compressed": "zstd"}
    assert do({"work": "sample", "target": source, "layout": "apart", **shape})["count"] == 3 * (9 * 2 + 2) + 3
    found = do({"work": "link", "source": source, "target": target, "layout": "scanned"})
    assert (found["count"], found["seconds"] > 0, found["peak"] > 1e6) == (0, True, True)
    read = do({"work": "read", "source": source})["count"]
    assert read == sum(file.stat().st_size for file in Path(source).rglob("*") if file.is_file())
    with pytest.raises(ValueError, match="'burn' is no work"):
        do({"work": "burn"})


def test_figures_of_checkpoints_are_shown():
    speed = Ratio(median=6.5, low=5.0, high=7.25, a=0.2, b=1.3, rounds=3)
    inside = Ratio(median=40.5, low=38.0, high=41.25, a=0.0314, b=1.3, rounds=3)
    row = {"work": "link", "against": "cp + sync", "speed": speed, "inside": inside, "bytes": 2**31}
    rows = (Row(**row, peak=61_000_000, peak_against=0), Row(**row, peak=60_000_000, peak_against=5_229_000_000))
    text = _checkpoints_text(CheckpointBench(gib=2.0, leaves=225, many=4005, rounds=3, rows=rows))
    assert "225 leaves of 2 GiB, 4005 small leaves, 3 rounds" in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "link 2.00 0.031 cp + sync 1.300 40.50 (38.00 to 41.25) 6.50 61 -" in lines
    assert lines[-1].endswith(" 60 5229")
