"""What convert refuses before it writes anything, and what it says that it left out."""

from __future__ import annotations

import numpy as np
import pytest

from impl.checkpoint import CheckpointError, as_data, conversion_text, convert, save_tree


def to(source, target, **options):
    return convert(source, target, **{"to": "auto", "layout": "keep", "scan_axis": 1} | options)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"to": "D5"}, "to='D5'"), ({"layout": "flat"}, "layout='flat'"), ({"scan_axis": -1}, "scan_axis=-1")],
)
def test_options_out_of_range(tmp_path, linen_tree, options, words):
    save_tree(tmp_path / "linen", linen_tree(3, 1))
    with pytest.raises(CheckpointError, match=words):
        to(tmp_path / "linen", tmp_path / "out", **options)


def test_targets_that_exist_or_lie_in_the_source(tmp_path, linen_tree):
    save_tree(tmp_path / "linen", linen_tree(3, 1))
    (tmp_path / "there").mkdir()
    for target, words in ((tmp_path / "there", "target exists"), (tmp_path / "linen" / "out", "inside the source")):
        with pytest.raises(CheckpointError, match=words):
            to(tmp_path / "linen", target)
    assert list((tmp_path / "there").iterdir()) == []


def test_a_step_too_large_for_linen(tmp_path, linen_tree):
    tree = linen_tree(3, 1)
    model = {"model": tree["params"]["params"], "optimizer": {"step": np.uint32(2**31 + 5)}}
    save_tree(tmp_path / "late", model)
    with pytest.raises(CheckpointError, match="2147483653 does not fit int32"):
        to(tmp_path / "late", tmp_path / "out")


def test_what_is_left_out_for_one_reason_is_one_line_and_all_of_it_in_the_data(tmp_path, linen_tree):
    tree = linen_tree(3, -1)
    counts = {"rngs": {name: {"count": np.uint32(5)} for name in ("params", "dropout")}}
    tree["nnx_aux"] = {"model": {"decoder": {f"layers_{index}": counts for index in range(3)}}}
    save_tree(tmp_path / "d2", tree)
    report = to(tmp_path / "d2", tmp_path / "d1", to="D1")
    first = [f"decoder/layers_0/rngs/{name}/count" for name in ("dropout", "params")]
    line = (
        f"  {', '.join(first)}, decoder/layers_1/rngs/dropout/count and 3 more (--json PATH has all): D1 has no place"
    )
    assert [text for text in conversion_text(report).splitlines() if "no place" in text] == [
        f"{line} for streams and other model state; ask for D2 to keep it"
    ]
    assert len(as_data(report)["dropped"]) == 6
