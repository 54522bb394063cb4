"""entropy, export and paxml are there or are not: killed anywhere they leave nothing in the way, and run again."""

from __future__ import annotations

import pytest

from impl.checkpoint import ExportWishes, PaxmlWishes, entropy, export, load_tree, paxml, save_tree
from tests.impl.checkpoint import paxml_files, zoo
from tests.impl.checkpoint.dialects.test_dialects import same
from tests.impl.checkpoint.killing import kill

KILLED_AT = ("conversion.transfer._filled", "derived.writing.write_step", "derived.writing.check_computed")
AGAIN = {
    "entropy": entropy,
    "export": lambda source, target: export(source, target, ExportWishes(layout="unscanned")),
    "paxml": lambda source, target: paxml(source, target, PaxmlWishes()),
}


@pytest.mark.parametrize("verb", AGAIN)
def test_killed_anywhere_and_run_again(tmp_path, verb):
    source = tmp_path / "source"
    if verb == "paxml":
        paxml_files.write(source, paxml_files.arrays())
    else:
        save_tree(source, zoo.tree("D1", "two", "adamw", "none"))
    kill(verb, source, KILLED_AT)
    AGAIN[verb](source, tmp_path / "whole")
    wanted = load_tree(tmp_path / "whole")
    for place in KILLED_AT:
        assert not (tmp_path / place).exists()
        assert len(list(tmp_path.glob(f"{place}.*"))) == 1
        AGAIN[verb](source, tmp_path / place)
        assert list(tmp_path.glob(f"{place}.*")) == []
    same(load_tree(tmp_path / KILLED_AT[-1]), wanted)
