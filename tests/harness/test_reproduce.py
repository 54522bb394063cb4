"""`harness reproduce`: the file that it writes is run by itself, where nothing of the harness can be imported."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import ml_dtypes
import numpy as np
import pytest

from harness.allowance import Allowance
from harness.cli import obeyed
from harness.difference import Difference
from harness.observation import CHANNELS
from harness.reproduce import Plan, ReproductionError, standalone, writing
from harness.reproduce.arrays import packed
from harness.reproduce.document import quoted
from harness.reproduce.literal import written
from harness.reproduce.plan import Shown
from harness.reproduce.reduction import Reduced, located, smallest
from harness.reproduce.trimming import STUB, trimmed
from harness.verdict import Rung, Verdict
from tests.harness.tiny_pairs import LINEN, NnxFlat, case_of, nnx_outputs, pair_of, side
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


FLAT = pair_of(LINEN, side("nnx", "nnx", partial(nnx_outputs, kinds=(("second", NnxFlat),))))
GRANTED = (Allowance(pattern="outputs/*", atol=100.0, because="a test"),)


@pytest.mark.parametrize(
    ("rung", "granted", "program"),
    [(Rung.DIVERGED, (), "forward"), (Rung.WITHIN_NOISE, (), "grad"), (Rung.DIVERGED, GRANTED, "grad")],
)
def test_an_earlier_program_is_shown_only_if_it_diverges_by_the_whole_lines_judgement(rung, granted, program):
    case = case_of(FLAT, "grad")
    first = Difference(channel="loss", name="square", reason="value", left="1", right="2")
    verdict = Verdict(case=case.name, scenario="grad", sides=("linen", "nnx"), rung=rung, first=first)
    whole = Reduced(case=case, verdict=verdict, first=first, note="")
    found = smallest(FLAT, whole, lambda _: granted, lambda *_: verdict)
    assert {run.program for run in found.case.runs} == {program}
    assert bool(found.note) == (program != "grad")
    assert located(FLAT, case, "taps") == "second"


def plan(**changes) -> Plan:
    run = Shown(side="linen", program="forward", settings="{}")
    return Plan(**{
        "case": "a[b,c:d]", "pair": "tests:PAIR", "why": "a test", "runs": (run, run), "settings": "{}", "imports": (),
        "record": {}, "first": "outputs/y (value)", "described": "outputs/y differs", "module": "", "taps": "",
        "notes": (), "allow": (), "dtypes": {}, "environment": {}, "variables": {}, **changes,
    })  # fmt: skip


@pytest.mark.parametrize(
    ("printed", "code", "sentence"),
    [
        ("first divergence: outputs/z (value)\n", 1, "showed 'outputs/z (value)'"),
        ("", 0, "showed 'no divergence'"),
        ("first divergence: outputs/y (value)\n", 2, "ended with code 2"),
        ("first divergence: outputs/y (value)\n", 1, "places the divergence in 'nowhere', the harness in 'layer'"),
    ],
)
def test_a_file_that_shows_something_else_is_not_kept(monkeypatch, tmp_path, printed, code, sentence):
    closure = writing.Closure(sources={}, libraries=())
    monkeypatch.setattr(writing, "closures", lambda *_: (closure, closure))
    monkeypatch.setattr(writing, "document", lambda *_: f"print({printed!r})\nraise SystemExit({code})")
    shown = plan(taps="taps" if "places" in sentence else "", module="layer")
    with pytest.raises(ReproductionError, match=re.escape(sentence)):
        writing.write(shown, b"", tmp_path / "out", 60)
    assert list(tmp_path.iterdir()) == []


def test_a_stub_that_was_needed_after_all_is_replaced(monkeypatch, tmp_path):
    small, whole = (writing.Closure(sources={name: b""}, libraries=()) for name in ("small", "whole"))
    monkeypatch.setattr(writing, "closures", lambda *_: (small, whole))
    said = "print('first divergence: outputs/y (value)')\nraise SystemExit({})"
    monkeypatch.setattr(writing, "document", lambda _, needed: said.format(int("whole" in needed.sources)))
    writing.write(plan(), b"", tmp_path / "out", 60)
    assert (tmp_path / "out" / "reproduce.py").read_text().endswith("SystemExit(1)")


def test_an_installed_copy_is_not_taken_for_the_embedded_one(monkeypatch, tmp_path):
    monkeypatch.setattr(standalone, "SOURCES", {"harness/case.py": "", "single.py": ""})
    found = standalone.strays(tmp_path)
    assert any(line.startswith("harness.reproduce.standalone (") for line in found)
    assert all(line.startswith("harness") for line in found)
    assert standalone.strays(ROOT) == []


def test_it_compares_in_the_harness_order():
    assert standalone.CHANNELS == CHANNELS


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        ([1.0, np.nan], [1.0, np.nan], ""),
        ([0.0], [-0.0], "value"),
        ([1.0], [np.inf], "nonfinite"),
        ([1, 2], [1, 3], "value"),
        ([1.0], [1], "dtype"),
        ([1.0], [[1.0]], "shape"),
        ("one", "other", "text"),
        ([1j], [2j], "value"),
    ],
)
def test_differences_have_the_harness_reasons(a, b, reason):
    assert standalone.differ("outputs", "y", np.array(a), np.array(b))[0] == reason


def test_missing_names_claims_and_allowances(monkeypatch):
    one = np.ones(3, ml_dtypes.bfloat16)
    assert standalone.differ("outputs", "y", one, None)[0] == "missing"
    assert standalone.differ("claims", "y", np.bool_(False), np.bool_(False))[0] == "claim"
    reason, lines = standalone.differ("outputs", "y", one, one * 2)
    assert (reason, lines[-1]) == ("value", "max abs 1, max rel 0.5; 3 of 3 elements differ")
    monkeypatch.setattr(standalone, "ALLOWED", (("outputs/*", 0.5, 0.0, "a test"),))
    assert standalone.differ("outputs", "y", one, one * 2)[0] == ""
    assert standalone.differ("loss", "y", one, one * 2)[0] == "value"


DTYPES = ("bfloat16", "float8_e4m3fn", "int4", "float32", "float64", "complex64", "uint32", "int64", "bool", "U5")


def test_arrays_of_every_dtype_come_back(monkeypatch, tmp_path):
    made = {name: np.array([[0, 1, 1], [1, 0, 1]]).astype(name) for name in DTYPES}
    made |= {
        "scalar": np.array(3, ml_dtypes.bfloat16),
        "empty": np.zeros((0, 2), ml_dtypes.bfloat16),
        "a/b c": made["bool"],
    }
    content, dtypes = packed({"weights": made, "inputs": {"key": np.array([0, 2**32 - 1], np.uint32)}})
    assert packed({"weights": made, "inputs": {"key": np.array([0, 2**32 - 1], np.uint32)}})[0] == content
    (tmp_path / "case.npz").write_bytes(content)
    monkeypatch.setattr(standalone, "DTYPES", dtypes)
    weights, inputs = standalone.load(tmp_path / "case.npz")
    assert list(weights) == list(made)
    for name, array in made.items():
        assert (weights[name].dtype, weights[name].shape) == (array.dtype, array.shape)
        assert (weights[name].tobytes(), weights[name].flags.writeable) == (array.tobytes(), False)
    assert inputs["key"].tolist() == [0, 2**32 - 1]
    with pytest.raises(ReproductionError, match="array of objects"):
        packed({"inputs": {"x": np.array([object()])}})


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"x = 1", b"x = '''\"\"\"'''\n", b'"""doc"""\n', b"a\\\n", b"end\\", b"'''", b'"', b"\\N{DASH}\\x41"),
        *(b"a\r\nb\rc\n", b"\0\x0c\x1b", "ä€😀\n".encode(), b"\xef\xbb\xbfx", b"\xff\xfe\x00", b'\\u0041\\"""\r'),
    ],
)
def test_any_source_comes_back_from_its_literal(content):
    text = f"value = {quoted(content)}\n"
    held: dict[str, str | bytes] = {}
    exec(compile(text.encode(), "file", "exec"), held)
    value = held["value"]
    assert (value if isinstance(value, bytes) else value.encode()) == content


@pytest.mark.parametrize(
    "value",
    [
        {"a": (1,), "b": [None, True, "ä\\"], "c": {1, 2}, "d": -0.5, "e": b"\xff", "f": ((), frozenset(), {})},
        MappingProxyType({"x": float("inf")}),
        np.dtype("bfloat16"),
        np.float32(0.1),
        np.array([[1, 2]], np.int8),
        Shown(side="linen", program="x", settings="{}"),
        np.tanh,
        Plan,
    ],
)
def test_settings_come_back_from_their_text(value):
    needs: set[str] = set()
    text = written(value, "setting", needs)
    modules = {name.partition(".")[0]: __import__(name) for name in needs}
    np.testing.assert_equal(eval(text, modules), dict(value) if isinstance(value, MappingProxyType) else value)


def test_a_setting_without_a_text_names_itself():
    with pytest.raises(
        ReproductionError, match=r"setting\.f is <function .* of type function, which cannot be written"
    ):
        written({"f": lambda: 0}, "setting", set())


def test_only_what_runs_keeps_a_module():
    sources = {
        "p/__init__.py": b"",
        "p/a.py": b"from p.b import one\nfrom p import c, d\nimport p.e as e\n\n\ndef f():\n    return one\n\n\n"
        b"def g():\n    return c, e\n\n\nTABLE = (d.x,)\n",
        **{f"p/{name}.py": b"from p.f import y\nx = 1\n" for name in "bcdef"},
        "p/data.yml": b"kept",
    }
    found = trimmed(sources, ["p.a"], {("p/a.py", 6)})
    assert {path for path, text in found.items() if text == STUB} == {"p/c.py", "p/e.py", "p/f.py"}
    assert set(sources) == set(found)
    assert found["p/data.yml"] == b"kept"
    assert "p/f.py" not in trimmed({**sources, "p/b.py": b"", "p/d.py": b"x = 1"}, ["p.a"], {("p/a.py", 6)})


def _sections(text: str) -> dict[str, str]:
    """Path -> literal of every `SOURCES[path] = literal` at the top level of a reproduction."""
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            found[ast.literal_eval(node.targets[0].slice)] = ast.get_source_segment(text, node.value) or ""
    return found
