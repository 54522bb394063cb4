"""Pairs by name, and what is wrong with a name that is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import harness.cli
from harness.pair import Pair
from harness.registry import RegistryError, load_checkpoint_tools, load_pair, load_reference
from tests.harness import tiny_pairs

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("", "--pair '': write it as module:ATTRIBUTE, for example examples.mlp:PAIR"),
        ("imp", "--pair 'imp': write it as module:ATTRIBUTE, for example examples.mlp:PAIR"),
        ("impl:", "--pair 'impl:': write it as module:ATTRIBUTE, for example examples.mlp:PAIR"),
        ("nowhere_at_all:PAIR", "nowhere_at_all cannot be imported: No module named 'nowhere_at_all'"),
        ("tests.nowhere:PAIR", "tests.nowhere cannot be imported: No module named 'tests.nowhere'"),
        ("needy_pair:PAIR", "needy_pair cannot be imported: No module named 'package_that_is_not_installed'"),
        ("tests.harness.tiny_pairs:GONE", "GONE is a NoneType, not a harness.Pair"),
        ("tests.harness.tiny_pairs:LINEN", "LINEN is a Side, not a harness.Pair"),
        ("tests.harness.tiny_pairs:draw", "draw is a function, not a harness.Pair"),
        ("tests.harness.tiny_pairs:HONEST.sides", "not a harness.Pair"),
    ],
)
def test_a_specification_that_is_no_pair_is_refused(spec, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "needy_pair.py").write_text("import package_that_is_not_installed\n")
    with pytest.raises(RegistryError) as caught:
        load_pair(spec)
    assert sentence in str(caught.value)
    assert f"--pair {spec!r}" in str(caught.value)


@pytest.mark.parametrize("spec", [":PAIR", ".relative:PAIR"])
def test_a_specification_without_a_proper_module_is_refused(spec):
    with pytest.raises(RegistryError):
        load_pair(spec)


def test_a_module_that_fails_when_imported_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "failing_pair.py").write_text("PAIR = undefined_name\n")
    with pytest.raises(RegistryError, match="failing_pair cannot be imported: NameError"):
        load_pair("failing_pair:PAIR")


def test_the_command_line_says_so_and_ends_with_2(capsys):
    assert harness.cli.obeyed(["list", "--pair", "nowhere_at_all:PAIR"]) == 2
    assert "nowhere_at_all cannot be imported" in capsys.readouterr().err


def test_a_pair_of_the_current_folder_is_found(tmp_path, monkeypatch):
    text = "from harness import Pair\nMINE = Pair(name='here', sides={}, prepare=lambda settings, seed: ({}, {}))\n"
    (tmp_path / "pair_of_this_folder.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    found = load_pair("pair_of_this_folder:MINE")
    assert isinstance(found, Pair)
    assert found.name == "here"
    assert sys.path.count(str(tmp_path)) == 1
    assert load_pair("pair_of_this_folder:MINE") is found
    assert sys.path.count(str(tmp_path)) == 1


def test_a_pair_is_the_modules_own_object():
    assert load_pair("tests.harness.tiny_pairs:HONEST") is tiny_pairs.HONEST


def test_impl_is_a_pair_of_six_sides():
    pair = load_pair("impl")
    assert pair.name == "impl"
    assert next(iter(pair.sides)) == "linen"
    assert {"linen", "nnx"} < pair.sides.keys()
    offered = {name: frozenset(each.programs) for name, each in pair.sides.items()}
    assert len(pair.sides) == 6
    assert offered["linen"] == offered["nnx"]
    assert {"forward", "taps", "train", "structure"} <= offered["nnx"]
    assert [pair.sides[name].frameworks for name in ("linen", "nnx")] == [{"linen"}, {"nnx"}]
    bridged = {name: each.frameworks for name, each in pair.sides.items() if name not in ("linen", "nnx")}
    assert set(bridged.values()) == {frozenset({"linen", "nnx"})}
    assert all(each.name == name for name, each in pair.sides.items())


def test_the_settings_of_a_run_lie_over_the_cases(monkeypatch):
    from impl import programs

    def echo(settings, weights, inputs):
        return {"settings": settings, "weights": weights, "inputs": inputs}

    monkeypatch.setattr(programs, "programs", lambda name: {"echo": echo})
    case = tiny_pairs.case_of(tiny_pairs.HONEST, settings={"scale": 0.5, "wide": 1.5})
    run = tiny_pairs.Run(side="nnx", program="echo", settings={"scale": 2.5})
    seen = load_pair("impl").sides["nnx"].programs["echo"](case, run)
    assert seen["settings"] == {"scale": 2.5, "wide": 1.5}
    assert seen["weights"] is case.weights
    assert seen["inputs"] is case.inputs


def test_the_tools_of_impl():
    assert load_checkpoint_tools().__name__ == "impl.checkpoint"
    assert load_reference().__name__ == "impl.reference"


def test_importing_the_registry_imports_neither_impl_nor_a_framework():
    code = "import sys, harness.registry; print(*(n for n in ('impl', 'jax', 'flax') if n in sys.modules), 'done')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["done"]
