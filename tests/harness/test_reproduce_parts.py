"""The parts of a reproduction: what is left out, arrays, settings, sources, its own comparison, how it is checked."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from types import MappingProxyType

import ml_dtypes
import numpy as np
import pytest

from harness.allowance import Allowance
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

ROOT = Path(__file__).parents[2]

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
