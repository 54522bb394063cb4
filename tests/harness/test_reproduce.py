"""`harness reproduce`: the file that it writes is run by itself, where nothing of the harness can be imported."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.cli import obeyed
from harness.reproduce.trimming import STUB
from tests.harness.toy_pair import write_toy

ROOT = Path(__file__).parents[2]

PAIR = r'''
"""A pair of three layers, and versions of its NNX side with one mistake each."""

from functools import partial
from pathlib import Path

import flax.linen as nn
import jax.numpy as jnp
import optax
from flax import nnx

from harness.modules import LinenModel, NnxModel, Task, module_pair
from strangeplace import unused
from strangeplace.widths import HIDDEN

RATE = float(Path(__file__).with_name("rate.txt").read_text())
TRICKY = "\\ \"\"\" \' end\
"


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.LayerNorm()(nn.tanh(nn.Dense(HIDDEN)(x)))
        return nn.Dense(2)(x)


class NnxNet(nnx.Module):
    epsilon = 1e-6

    def __init__(self, rngs):
        self.first = nnx.Linear(3, HIDDEN, rngs=rngs)
        self.norm = nnx.LayerNorm(HIDDEN, epsilon=self.epsilon, rngs=rngs)
        self.last = nnx.Linear(HIDDEN, 2, rngs=rngs)

    def act(self, x):
        return jnp.tanh(x)

    def __call__(self, x):
        return self.last(self.norm(self.act(self.first(x))))


class Epsilon(NnxNet):
    epsilon = 1e-3


def inputs(rng):
    return {"x": rng.standard_normal((4, 3), dtype="float32"), "y": rng.standard_normal((4, 2), dtype="float32")}


def pair(kind):
    return module_pair(
        kind.__name__,
        linen=LinenModel(module=LinenNet(), train=lambda m, b: m(b["x"]), evaluate=lambda m, b: m(b["x"])),
        nnx=NnxModel(create=kind, call=lambda m, b: m(b["x"])),
        task=Task(
            inputs=inputs,
            loss=lambda output, batch: {"square": jnp.mean((output - batch["y"]) ** 2)},
            optimizer=partial(optax.sgd, RATE),
        ),
        renames={"Dense_0": "first", "LayerNorm_0": "norm", "Dense_1": "last"},
    )


EPSILON = pair(Epsilon)
'''

UNUSED = 'import json\n\n\ndef never_called():\n    """A mark that is looked for."""\n    return json\n'


@dataclass(frozen=True, kw_only=True)
class Ended:
    code: int
    text: str
    words: str


def harness(folder: Path, *words: str) -> Ended:
    """The command, run in `folder`, whose modules it can import."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "harness.cli", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return Ended(code=done.returncode, text=done.stdout, words=done.stderr)


def alone(script: Path, folder: Path) -> Ended:
    """The file, run as a stranger does: nothing of this checkout is on the import path."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_PLAT", "PYTHON"))}
    command = [sys.executable, "-I", str(script)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return Ended(code=done.returncode, text=done.stdout, words=done.stderr)


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    """A folder with a pair of modules, a package without __init__.py, and a file that the pair reads."""
    folder = tmp_path_factory.mktemp("strange")
    (folder / "wrongpair.py").write_text(PAIR)
    (folder / "rate.txt").write_text("0.125\n")
    (folder / "strangeplace").mkdir()
    (folder / "strangeplace" / "widths.py").write_text("HIDDEN = 5\n")
    (folder / "strangeplace" / "unused.py").write_text(UNUSED)
    return folder


@pytest.fixture(scope="module")
def epsilon(strange):
    """The reproduction of a norm with another epsilon, and what the command said."""
    ended = harness(
        strange, "reproduce", "forward_train[default,linen:nnx]", "--pair", "wrongpair:EPSILON", "-o", "epsilon"
    )
    assert ended.code == 0, ended.words
    return strange / "epsilon", ended


def test_a_divergence_is_shown_by_the_file_alone(epsilon, tmp_path):
    folder, said = epsilon
    assert {path.name for path in folder.iterdir()} == {"reproduce.py", "case.npz"}
    ended = alone(folder / "reproduce.py", tmp_path)
    assert ended.code == 1, ended.words
    assert "first divergence: outputs/output (value)\n  float32[4, 2], worst at [" in ended.text
    assert re.search(
        r"left   -?\d+\.\d+\n  right  -?\d+\.\d+\n  max abs 0\.\d+, max rel 0\.\d+; 8 of 8 elem", ended.text
    )
    assert "1 of 1 values differ\n" in ended.text
    assert "first module, in forward order, whose output differs: LayerNorm_0 (value)\n  float32[4, 5]" in ended.text
    assert ended.text.endswith("DIVERGED\n")
    assert "The case runs 'forward_train'; 'forward' shows the divergence already." in said.text
    assert not list(tmp_path.iterdir())


def test_sources_come_back_byte_for_byte_and_unused_ones_are_left_out(epsilon, strange):
    text = (epsilon[0] / "reproduce.py").read_text()
    sources = {path: eval(literal) for path, literal in _sections(text).items()}
    assert sources["wrongpair.py"] == PAIR
    assert sources["rate.txt"] == "0.125\n"
    assert sources["strangeplace/widths.py"] == "HIDDEN = 5\n"
    assert sources["strangeplace/unused.py"] == STUB.decode()
    assert sources["strangeplace/__init__.py"] == ""
    for path in ("harness/modules/nnx_engine.py", "harness/case.py"):
        assert sources[path] == (ROOT / path).read_text()
    judges = ("comparison", "difference", "judge", "locate", "observe", "registry", "verdict", "verify")
    assert not {f"harness/{name}.py" for name in judges} & set(sources)
    assert len(sources) < 35


def test_a_file_that_has_been_mended_says_that_both_agree(epsilon, tmp_path):
    text = (epsilon[0] / "reproduce.py").read_text()
    (tmp_path / "reproduce.py").write_text(text.replace("epsilon = 1e-3", "epsilon = 1e-6"))
    (tmp_path / "case.npz").write_bytes((epsilon[0] / "case.npz").read_bytes())
    ended = alone(tmp_path / "reproduce.py", tmp_path)
    assert (ended.code, "AGREE: 1 values are equal" in ended.text) == (0, True)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A folder with the pair of NumPy files, whose right side raises where the settings ask for it."""
    folder = tmp_path_factory.mktemp("toy")
    write_toy(folder)
    pair = folder / "toyhouse" / "pair.py"
    agreeing = "scenarios={'toy': SCENARIO}"
    raising = "SCENARIO.__class__(**{**vars(SCENARIO), 'settings': {'rows': 4, 'scale': 2.0, 'broken': True}})"
    text = pair.read_text().replace('scenarios={"toy": SCENARIO}', agreeing[:-1] + f", 'broken': {raising}}}")
    assert raising in text
    pair.write_text(text)
    right = folder / "toyhouse" / "right.py"
    body = right.read_text()
    right.write_text(
        body.replace("    found =", "    assert 'broken' not in case.settings, 'a broken side'\n    found =", 1)
    )
    return folder


def test_an_error_on_one_side_is_shown_against_the_other_sides_values(toy, tmp_path):
    words = ("reproduce", "broken[default,linen:nnx]", "--pair", "toyhouse.pair:TOY", "-o", "error")
    ended = harness(toy, *words)
    assert ended.code == 0, ended.words
    first = {path.name: path.read_bytes() for path in (toy / "error").iterdir()}
    ended = alone(toy / "error" / "reproduce.py", tmp_path)
    assert ended.code == 1
    assert "first divergence: outputs/error (error)\n  left   no error; 2 values: outputs/y float64[4, 3]" in ended.text
    assert "  right  AssertionError: a broken side\n" in ended.text
    assert "assert 'broken' not in case.settings, 'a broken side'\n" in ended.words  # a line of the embedded source
    assert harness(toy, *words).code == 0
    assert {path.name: path.read_bytes() for path in (toy / "error").iterdir()} == first


def test_what_agrees_is_not_written_unless_asked_for(toy):
    words = ("reproduce", "toy[default,linen:nnx]", "--pair", "toyhouse.pair:TOY", "-o", "sound")
    ended = harness(toy, *words)
    assert (ended.code, (toy / "sound").exists()) == (0, False)
    assert "does not diverge: BITWISE. Nothing was written" in ended.text
    ended = harness(toy, *words, "--anyway")
    assert (ended.code, "AGREE: 2 values are equal\n" in ended.text) == (0, True)
    assert (toy / "sound" / "reproduce.py").is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("trian[default,linen:nnx]",), "did you mean train[default,linen:nnx]"),
        (("train[default,linen:nnx]", "-o", "absent/there"), "is not a folder: make it first"),
        (("train[default,linen:nnx]", "-o", "."), "is no earlier reproduction"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_runs(tmp_path, monkeypatch, capsys, words, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").touch()
    monkeypatch.setattr("harness.cli.reproduce.judged", lambda *_: pytest.fail("it ran"))
    assert obeyed(["reproduce", *words, "--pair", "examples.mlp:PAIR"]) == 2
    assert sentence in capsys.readouterr().err


def _sections(text: str) -> dict[str, str]:
    """Path -> literal of every `SOURCES[path] = literal` at the top level of a reproduction."""
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            found[ast.literal_eval(node.targets[0].slice)] = ast.get_source_segment(text, node.value) or ""
    return found
