"""Entries on disk, what counts as code, and which code a worker says that it ran."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import harness
from harness.cache.circumstances import circumstances
from harness.cache.code import code_of, roots
from harness.cache.store import Entry, keep, key_of, read, shrink, verdict_folder
from tests.harness.fake_cases import diverged, good

ROOT = Path(__file__).resolve().parents[2]
ENTRY = Entry(case="a[b,linen:nnx]", parts={"code": "1"}, roots=("/mine",), verdict=good("a[b,linen:nnx]"))

WRITE = """
import sys
from dataclasses import replace
from pathlib import Path
from harness.cache.store import keep, shrink
from tests.harness.test_cache_store import ENTRY
for n in range(150):
    keep(Path(sys.argv[1]), "one", replace(ENTRY, parts={"code": sys.argv[2] * 1000}))
    shrink(Path(sys.argv[1]), 5)
"""


def test_an_entry_comes_back_as_it_was(tmp_path):
    keep(tmp_path / "new" / "folder", "name", ENTRY)
    assert read(tmp_path / "new" / "folder", "name") == ENTRY
    assert read(tmp_path, "name") is None


def test_an_entry_of_a_verdict_that_does_not_pass_or_of_another_case_or_key_is_none(tmp_path):
    keep(tmp_path, "bad", replace(ENTRY, verdict=diverged(ENTRY.case)))
    keep(tmp_path, "other", replace(ENTRY, case="c"))
    keep(tmp_path, "edited", ENTRY)
    text = (tmp_path / "edited.json").read_text()
    (tmp_path / "edited.json").write_text(text.replace('"code": "1"', '"code": "2"'))
    assert [read(tmp_path, name) for name in ("bad", "other", "edited")] == [None] * 3


def test_two_runs_at_once_never_show_half_an_entry(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    runs = [
        subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path), letter], env=environment, cwd=ROOT)
        for letter in "ab"
    ]
    seen, looks = set(), 0
    while any(run.poll() is None for run in runs):
        if (tmp_path / "one.json").exists():
            entry = read(tmp_path, "one")
            assert entry is not None
            seen.add(entry.parts["code"][0])
            looks += 1
    assert [run.returncode for run in runs] == [0, 0]
    assert seen <= {"a", "b"}
    assert looks > 10
    assert [path.name for path in tmp_path.iterdir()] == ["one.json"]


def test_the_oldest_go_first(tmp_path):
    for age in range(8):
        keep(tmp_path, f"n{age}", ENTRY)
        os.utime(tmp_path / f"n{age}.json", (10_000 - age, 10_000 - age))
    (tmp_path / ".x.json.1.part").touch()
    os.utime(tmp_path / ".x.json.1.part", (1, 1))
    shrink(tmp_path, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["n0.json", "n1.json", "n2.json"]
    shrink(tmp_path / "nowhere", 3)


def test_where_verdicts_are_kept():
    assert verdict_folder({"HOME": "/h", "JAX_COMPILATION_CACHE_DIR": "/jax"}) == Path(
        "/h/.cache/linen-nnx-harness/verdicts"
    )
    assert verdict_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/linen-nnx-harness/verdicts")
    assert verdict_folder({"HOME": "/h", "HARNESS_CACHE": "/mine"}) == Path("/mine/verdicts")


def test_a_key_is_of_every_part():
    keys = {key_of(parts) for parts in ({"a": "1"}, {"a": "2"}, {"b": "1"}, {"a": "1", "b": ""})}
    assert len(keys) == 4


CODE = 'def f(a):\n    """Says."""\n    return a + 1\n'


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("# said\ndef f(a):\n\n    return (a +\n        1)\n", True),
        ('def f(a):\n    """Says more."""\n    return a + 1\n', True),
        ("def f(a):\n    return a + 2\n", False),
        ('def f(a):\n    """Says."""\n    "kept"\n    return a + 1\n', False),
        ("def f(b):\n    return b + 1\n", False),
        ("def f(a:\n", False),
    ],
)
def test_code_is_its_syntax_tree(tmp_path, text, same):
    for name, content in (("one", CODE), ("two", text)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "m.py").write_text(content)
    one, two = (code_of(str(tmp_path / name)).digest for name in ("one", "two"))
    assert (one == two) == same


def test_other_files_count_by_bytes_and_names_and_what_python_writes_does_not(tmp_path):
    def now():
        return code_of(str(tmp_path)).digest

    (tmp_path / "m.py").write_text(CODE)
    (tmp_path / "__pycache__").mkdir()
    first = now()
    (tmp_path / "__pycache__" / "m.pyc").write_text("x")
    assert now() == first
    (tmp_path / "a.yml").write_text("a: 1")
    second = now()
    (tmp_path / "a.yml").write_text("a: 1 ")
    third = now()
    (tmp_path / "a.yml").rename(tmp_path / "b.yml")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    fourth = now()
    (tmp_path / "deep" / "er" / "m.py").write_text(CODE)
    assert len({first, second, third, fourth, now()}) == 5
    assert code_of(str(tmp_path / "gone")).digest == ""
    (tmp_path / "loose").symlink_to(tmp_path / "nowhere")
    assert code_of(str(tmp_path)).digest == ""


def module(name, file, path=()):
    made = ModuleType(name)
    made.__file__ = file
    if path:
        made.__path__ = list(path)
    return made


def test_own_code_is_what_is_neither_installed_nor_pythons(tmp_path):
    loaded = {
        "mine": module("mine", "/w/mine/__init__.py", ["/w/mine"]),
        "mine.deep.part": module("mine.deep.part", "/w/mine/deep/part.py"),
        "single": module("single", "/w/single.py"),
        "space": module("space", None, ["/w/space", "/v/space"]),
        "space.part": module("space.part", "/v/space/part.py"),
        "_harness_scenarios.a": module("_harness_scenarios.a", "/w/scenarios/a.py"),
        "_harness_scenarios.b": module("_harness_scenarios.b", "/w/scenarios/b.py"),
        "numpy": np,
        "os": os,
        "builtin": ModuleType("builtin"),
    }
    assert roots(loaded, "a") == ("/v/space", "/w/mine", "/w/scenarios/a.py", "/w/single.py")


def test_a_strangers_pair_is_among_the_code_and_nothing_installed_is():
    import examples.mlp  # noqa: F401

    found = roots(sys.modules, "forward")
    assert {str(Path(harness.__file__).parent), str(ROOT / "examples")} <= set(found)
    assert [root for root in found if "site-packages" in root] == []


def test_circumstances_are_the_same_twice_and_name_no_clock():
    assert circumstances(os.environ) == circumstances(dict(os.environ))
    other = circumstances({**os.environ, "XLA_FLAGS": "--xla_other"})
    same = {name for name, digest in circumstances(os.environ).items() if other[name] == digest}
    assert same == {"toolchain", "machine"}
