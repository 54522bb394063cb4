"""`harness convert`, `compare` and `inspect`: exit codes, one-line refusals, and conversions that lose nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest

from harness.cli import obeyed
from impl.checkpoint import save_tree
from impl.names import addresses, scatter
from impl.params import draw
from impl.tiny import family
from impl.trees import nested

CONFIG = family("gpt3", num_decoder_layers=3)


@pytest.fixture(scope="session")
def linen(tmp_path_factory):
    """A Linen checkpoint, unscanned, with AdamW's slots."""
    folder = tmp_path_factory.mktemp("linen") / "checkpoint"

    def tree(seed):
        return {"params": nested(scatter(draw(CONFIG, seed), addresses(CONFIG, "layers_{i}")))}

    adam = {"count": np.int32(4), "mu": tree(8), "nu": tree(9)}
    save_tree(folder, {"params": tree(7), "opt_state": [adam, None, {"count": np.int32(4)}], "step": np.int32(4)})
    return folder


def run(*words) -> int:
    return obeyed([str(word) for word in words])


def test_there_and_back_is_equal(linen, tmp_path, capsys):
    assert run("convert", linen, tmp_path / "nnx") == 0
    assert "(D3)" in capsys.readouterr().out
    assert run("convert", tmp_path / "nnx", tmp_path / "back", "--direction", "nnx_to_linen") == 0
    assert run("compare", linen, tmp_path / "back", "--values") == 0
    assert run("compare", linen, tmp_path / "nnx", "--values", "--only", "params") == 0
    assert "outcome   EQUAL" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "dialect", "layout"),
    [
        (["--direction", "linen_to_nnx"], "D3", "decoder/layers/<i>"),
        (["--to", "nnx", "--direction", "linen_to_nnx"], "D3", "decoder/layers/<i>"),
        (["--to", "D4"], "D4", "decoder/layers/<i>"),
        (["--to", "D4", "--direction", "linen_to_nnx"], "D4", "decoder/layers/<i>"),
        (["--to", "auto", "--direction", "linen_to_nnx"], "D3", "decoder/layers/<i>"),
        (["--to", "linen", "--scan-layers"], "D1", "stacked at axis 1, 3 layers"),
        (["--to", "D1", "--scan-layers", "--scan-axis", "0"], "D1", "stacked at axis 0, 3 layers"),
        (["--to", "D1", "--no-scan-layers"], "D1", "layers_<i>"),
    ],
)
def test_options_choose_dialect_and_layout(linen, tmp_path, capsys, words, dialect, layout):
    assert run("convert", linen, tmp_path / "out", *words) == 0
    path = tmp_path / "inspection.json"
    assert run("inspect", tmp_path / "out", "--json", path) == 0
    assert dialect in capsys.readouterr().out
    content = json.loads(path.read_text())
    assert content["dialect"] == dialect
    assert layout.removeprefix("decoder/") in content["layout"]["decoder/layers"]
    assert run("compare", linen, tmp_path / "out", "--values", "--only", "params") == 0


@pytest.mark.parametrize("mode", ["link", "copy"])
def test_the_report_says_how_the_bytes_came_there(linen, tmp_path, capsys, mode):
    path = tmp_path / "report.json"
    words = ["--to", "D1", "--scan-layers", "--mode", mode, "--verify", "--json", path]
    assert run("convert", linen, tmp_path / "out", *words) == 0
    said = capsys.readouterr()
    assert said.err == ""  # a bar is for terminals
    content = json.loads(path.read_text())
    transfer = content["transfer"]
    assert (transfer["mode"], transfer["made_leaves"], content["verified"]) == (mode, 0, content["leaves"] - 1)
    shared = [file.stat().st_nlink for file in (tmp_path / "out").rglob("ocdbt.process_0/d/*")]
    assert {count > 1 for count in shared} == {mode == "link"}
    assert f"{'linked' if mode == 'link' else 'copied'} " in said.out
    assert f"values of {content['verified']} leaves" in said.out  # one is the optimizer's empty state


def test_an_orbax_that_is_not_known_is_refused_before_anything_is_written(linen, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.13.1")
    assert run("convert", linen, tmp_path / "out") == 2
    sentence = (
        "orbax-checkpoint 0.13.1 is installed, its private metadata is known from 0.12 to below 0.13: install one"
    )
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert run("inspect", linen) == 0


def test_a_difference_is_exit_code_1_and_tolerances_are_heeded(linen, tmp_path, capsys):
    values = draw(CONFIG, 7)
    name = "decoder/layers/2/mlp/wo/bias"
    values[name] = values[name] * np.float32(1.001)
    moved = {"params": {"params": nested(scatter(values, addresses(CONFIG, "layers_{i}")))}, "step": np.int32(4)}
    save_tree(tmp_path / "moved", moved)
    only = ["--only", "params"]
    path = tmp_path / "comparison.json"
    assert run("compare", linen, tmp_path / "moved", "--values", *only, "--json", path) == 1
    content = json.loads(path.read_text())
    assert [row["path"] for row in content["differences"]] == ["decoder/layers_2/mlp/wo/bias"]
    assert "DIFFERENT" in capsys.readouterr().out
    assert run("compare", linen, tmp_path / "moved", "--values", *only, "--rtol", "0.01") == 0
    assert run("compare", linen, tmp_path / "moved", *only) == 0
    assert run("compare", linen, tmp_path / "moved") == 1


@pytest.fixture
def strange(tmp_path):
    """Paths that are no checkpoints, by name."""
    (tmp_path / "file").write_text("weights")
    (tmp_path / "empty").mkdir()
    (tmp_path / "nonsense").mkdir()
    (tmp_path / "nonsense" / "_METADATA").write_text("{]")
    save_tree(tmp_path / "other", {"alpha": np.arange(5.5)})
    return tmp_path


@pytest.mark.parametrize("name", ["absent", "file", "empty", "nonsense", "other"])
@pytest.mark.parametrize("verb", ["inspect", "compare", "convert"])
def test_what_is_no_checkpoint_is_refused_in_one_line(linen, strange, capsys, verb, name):
    more = {"inspect": [], "compare": [linen], "convert": [strange / "target"]}[verb]
    assert run(verb, strange / name, *more) == 2
    error = capsys.readouterr().err
    assert error.startswith("harness: ")
    assert error.count("\n") == 1
    assert not list(strange.glob("target*"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--to", "linen", "--direction", "linen_to_nnx"], "--to linen and --direction linen_to_nnx contradict"),
        (["--to", "D3", "--direction", "nnx_to_linen"], "--to D3 and --direction nnx_to_linen contradict each other"),
        (["--direction", "nnx_to_linen"], "is a linen checkpoint already (D1), --direction nnx_to_linen starts from"),
        (["--scan-layers", "--no-scan-layers"], "--scan-layers and --no-scan-layers contradict each other"),
        (["--to", "D9"], "invalid choice: 'D9'"),
        (["--scan-axis", "-1"], "'-1' is not a whole number from 0 on"),
        (["--scan-axis", "x"], "'x' is not a whole number"),
    ],
)
def test_bad_usage_of_convert(linen, tmp_path, capsys, words, sentence):
    assert run("convert", linen, tmp_path / "out", *words) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_existing_target_is_kept(linen, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("keep")
    assert run("convert", linen, tmp_path / "out") == 2
    assert "the target exists, expected nothing" in capsys.readouterr().err
    assert (tmp_path / "out" / "mine").read_text() == "keep"
    assert run("convert", linen, linen / "inside") == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--rtol", "0.1"], "--rtol, --atol and --ulp compare values: add --values"),
        (["--ulp", "2"], "--rtol, --atol and --ulp compare values: add --values"),
        (["--values", "--ulp", "-2"], "'-2' is not a whole number from 0 on"),
        (["--values", "--atol", "-1"], "'-1' is not a number from 0 on"),
        (["--values", "--atol", "nan"], "'nan' is not a number from 0 on"),
        (["--only", "weights"], "invalid choice"),
        (["--json", "/nowhere/at/all.json"], "does not exist: create it"),
    ],
)
def test_bad_usage_of_compare(linen, capsys, words, sentence):
    assert run("compare", linen, linen, *words) == 2
    assert sentence in capsys.readouterr().err
