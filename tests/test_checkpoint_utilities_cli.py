"""`harness entropy`, `export` and `paxml`: exit codes, one-line refusals, and what they write."""

from __future__ import annotations

import json

import numpy as np
import pytest

from harness.cli import obeyed
from impl.checkpoint import load_tree, save_tree
from tests.impl.checkpoint import paxml_files, zoo


@pytest.fixture(scope="session")
def state(tmp_path_factory):
    """A scanned Linen train state of two groups of layers."""
    folder = tmp_path_factory.mktemp("state") / "checkpoint"
    save_tree(folder, zoo.tree("D1", "two", "adamw", "none"))
    return folder


@pytest.fixture(scope="session")
def gpt3(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpt3") / "step"
    paxml_files.write(folder, paxml_files.arrays())
    return folder


def run(*words) -> int:
    return obeyed([str(word) for word in words])


def test_entropy_and_what_it_says(state, tmp_path, capsys):
    assert run("entropy", state, tmp_path / "out", "--json", tmp_path / "report.json") == 0
    said = capsys.readouterr().out
    content = json.loads((tmp_path / "report.json").read_text())
    leaves = len(zoo.weights("two", "none"))
    assert content["slots"] == {"0/mu": leaves, "0/nu": leaves}
    assert f"0/mu ({leaves} leaves)" in said
    assert run("compare", state, tmp_path / "out", "--values", "--only", "params") == 0
    assert run("compare", state, tmp_path / "out", "--values", "--only", "opt") == 1


def test_export_unrolls_and_rounds(state, tmp_path, capsys):
    assert run("export", state, tmp_path / "out", "--unroll", "--to", "nnx", "--json", tmp_path / "report.json") == 0
    assert "moe_layers_<i>, 11 layers" in capsys.readouterr().out
    decoder = load_tree(tmp_path / "out" / "0" / "items")["decoder"]
    assert sorted(name for name in decoder if "dense" in name) == ["dense_layers_0", "dense_layers_1"]
    assert decoder["moe_layers_10"]["mlp"]["wi_0"]["kernel"]["value"].dtype.name == "bfloat16"
    assert json.loads((tmp_path / "report.json").read_text())["left_out"] == {
        "optimizer": 2 * len(zoo.weights("two", "none")) + 3
    }
    assert run("export", state, tmp_path / "kept", "--dtype", "keep") == 0
    assert run("compare", state, tmp_path / "kept", "--values", "--only", "params") == 0


def test_paxml_then_convert_and_back(gpt3, tmp_path, capsys):
    assert run("paxml", gpt3, tmp_path / "linen", "--qkv", "split", "--json", tmp_path / "report.json") == 0
    assert run("paxml", gpt3, tmp_path / "nnx", "--qkv", "split", "--to", "nnx", "--no-scan-layers") == 0
    assert run("compare", tmp_path / "linen", tmp_path / "nnx", "--values") == 0
    assert "outcome   EQUAL" in capsys.readouterr().out
    assert json.loads((tmp_path / "report.json").read_text())["axes"]["V"] == 13


@pytest.mark.parametrize("verb", ["entropy", "export", "paxml"])
def test_a_target_that_exists_or_lies_inside_is_refused_in_one_line(state, gpt3, tmp_path, capsys, verb):
    source = gpt3 if verb == "paxml" else state
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("keep")
    for target, words in ((tmp_path / "out", "the target exists"), (source / "inside", "lies inside the source")):
        assert run(verb, source, target) == 2
        error = capsys.readouterr().err
        assert error.startswith("harness: ")
        assert error.count("\n") == 1
        assert words in error
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "mine").read_text() == "keep"


@pytest.mark.parametrize("verb", ["entropy", "export", "paxml"])
@pytest.mark.parametrize("name", ["absent", "file", "empty"])
def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path, capsys, verb, name):
    (tmp_path / "file").write_text("weights")
    (tmp_path / "empty").mkdir()
    assert run(verb, tmp_path / name, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.startswith("harness: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["export", "a", "b", "--dtype", "float16"], "invalid choice"),
        (["export", "a", "b", "--scan-axis", "-1"], "'-1' is not a whole number from 0 on"),
        (["paxml", "a", "b", "--qkv", "three"], "invalid choice"),
        (["paxml", "a", "b", "--json", "/nowhere/at/all.json"], "does not exist: create it"),
        (["entropy", "a"], "the following arguments are required: DST"),
    ],
)
def test_bad_usage(capsys, words, sentence):
    assert run(*words) == 2
    assert sentence in capsys.readouterr().err


def test_a_state_without_moments_gets_none(tmp_path, capsys):
    save_tree(tmp_path / "sgd", zoo.tree("D3", "apart", "sgd", "none"))
    assert run("entropy", tmp_path / "sgd", tmp_path / "out") == 2
    assert "expected mu or nu" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert np.asarray(load_tree(tmp_path / "sgd")["optimizer"]["step"]) == 5
