"""What is no checkpoint is refused with words that say what was found and what to give instead."""

from __future__ import annotations

import os

import numpy as np
import pytest

from impl.checkpoint import CheckpointError, inspect, load_tree, save_tree
from tests.impl.checkpoint.saving import attempt


def absent(path, tree):
    return path / "absent"


def file(path, tree):
    (path / "file").write_text("weights")
    return path / "file"


def empty(path, tree):
    (path / "empty").mkdir()
    return path / "empty"


def strange(path, tree):
    (path / "strange").mkdir()
    (path / "strange" / "model.safetensors").write_bytes(b"\x07" * 9)
    return path / "strange"


def unfinished(path, tree):
    save_tree(path / "whole", tree)
    return (path / "whole").rename(path / "whole.orbax-checkpoint-tmp")


def steps(path, tree):
    for step in (3, 20):
        save_tree(path / "run" / str(step) / "items", tree)
    return path / "run"


def cut(path, tree):
    save_tree(path / "cut", tree)
    metadata = path / "cut" / "_METADATA"
    metadata.write_text(metadata.read_text()[:40])
    return path / "cut"


def nonsense(path, tree):
    save_tree(path / "nonsense", {"alpha": np.arange(3.0), "beta": {"gamma": np.arange(5)}})
    return path / "nonsense"


def diloco(path, tree):
    save_tree(path / "diloco", {**tree, "inner_state": {"step": np.int32(4)}})
    return path / "diloco"


def half_wrapped(path, tree):
    model = {"decoder": {"scale": {"value": np.arange(3.0)}, "bias": np.arange(4.0)}}
    save_tree(path / "half", {"model": model})
    return path / "half"


CASES = [
    (absent, "found nothing"),
    (file, "found a file"),
    (empty, "no Orbax checkpoint"),
    (strange, "model.safetensors"),
    (unfinished, "unfinished"),
    (steps, r"steps \[3, 20\]"),
    (cut, r"_METADATA: cannot be read \(JSONDecodeError"),
    (nonsense, r"\['alpha', 'beta'\]"),
    (diloco, "inner_state"),
    (half_wrapped, "decoder/scale/value lies in .* and model/decoder/bias does not"),
]


@pytest.mark.parametrize(("make", "words"), CASES, ids=[make.__name__ for make, _ in CASES])
def test_refused(tmp_path, linen_tree, make, words):
    with pytest.raises(CheckpointError, match=words):
        inspect(make(tmp_path, linen_tree(3, 1)))


def test_missing_data_files_are_refused(tmp_path):
    # One array: Orbax reads several at once and leaves the other failures for the garbage collector to complain of.
    save_tree(tmp_path / "torn", {"decoder": {"scale": np.arange(3.5, 9.0)}})
    for data in [*(tmp_path / "torn" / "d").iterdir(), *(tmp_path / "torn").glob("ocdbt.process_*/d/*")]:
        data.unlink()
    with pytest.raises(CheckpointError, match="cannot read it"):
        load_tree(tmp_path / "torn")


def test_one_step_of_a_manager_is_found_and_items_may_be_named(tmp_path, linen_tree):
    save_tree(tmp_path / "run" / "12" / "items", linen_tree(3, 1))
    wanted = str(tmp_path / "run" / "12" / "items")
    assert {inspect(tmp_path / "run" / part).items for part in ("", "12", "12/items")} == {wanted}


def test_save_and_load_keep_every_leaf(tmp_path, draw):
    tree = {"a": {"b": draw("b", (3, 5)), "c": draw("c", (4,), "bfloat16")}, "d": [np.int8(7), None], "e": {}}
    save_tree(tmp_path / "tree", tree)
    found = load_tree(tmp_path / "tree")
    assert found["a"]["b"].tobytes() == tree["a"]["b"].tobytes()
    assert (found["a"]["c"].dtype.name, found["a"]["c"].tobytes()) == ("bfloat16", tree["a"]["c"].tobytes())
    assert (int(found["d"][0]), found["d"][0].dtype, found["d"][1], found["e"]) == (7, np.int8, None, {})
    with pytest.raises(CheckpointError, match="target exists"):
        save_tree(tmp_path / "tree", tree)
    with pytest.raises(CheckpointError, match="a/b: a object, expected an array"):
        save_tree(tmp_path / "other", {"a": {"b": object()}})


@pytest.mark.parametrize("mode", ["link", "copy"])
def test_pipes_and_links_beside_the_tree_are_left_behind_and_named(tmp_path, linen_tree, mode):
    step = tmp_path / "step"
    save_tree(step / "items", linen_tree(3, 1))
    (step / "more").mkdir()
    (step / "more" / "text").write_text("kept")
    os.mkfifo(step / "more" / "pipe")  # whoever reads of it waits without end
    (step / "away").symlink_to("/etc")
    (step / "round").symlink_to(".")
    notes = attempt(step, tmp_path / "out", mode=mode).notes
    left = ", ".join(str(step / name) for name in ("away", "more/pipe", "round"))
    assert f"{left}: neither a file nor a folder, and not carried over" in notes
    assert sorted(path.name for path in (tmp_path / "out").rglob("*") if path.parent.name in ("out", "more")) == [
        "_CHECKPOINT_METADATA",
        "items",
        "more",
        "text",
    ]
