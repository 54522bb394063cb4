"""Mutants: what each operator makes of a snippet, what a seed draws, and which lines were run."""

from __future__ import annotations

import importlib
import sys

import pytest

from harness.faults.catalogue import CATALOGUE
from harness.mutation import MutationError
from harness.mutation.operators import OPERATORS
from harness.mutation.reach import watched
from harness.mutation.sampling import mutants, mutants_of, sampled

SNIPPETS = {
    "argument": ("f(a, g(b), *c)", (("a, g(b)", "g(b), a"),)),
    "arithmetic": ("x = (é + 2.5) * -y  # a * b", (("é +", "é -"), (") *", ") /"), ("-y", "y"))),
    "axis": ("f(x, 3, axis=(0, -1))", (("(0", "(1"), ("(0", "((-1)"), ("-1", "-2"), ("-1", "-0"))),
    "boolean": (
        "a = b and c or not f(True)",
        (("and", "or"), (" or ", " and "), ("not ", ""), ("True", "False")),
    ),
    "comparison": (
        "a = 1 <= b < c is  not d\nb = b not  in c",
        (("<= b", "< b"), ("b < c", "b <= c"), ("is  not", "is"), ("not  in", "in")),
    ),
    "condition": (
        "if a:\n    b = [c for c in d if c.e and f]\nelif g == h:\n    i = j if not k else l\n",
        (("if a:", "if (not (a)):"), ("if c.e and f", "if (not (c.e and f))")),
    ),
    "decorator": (
        "class A:\n    @ b(\n        1)\n    @c\n    def d(self): ...\n",
        (("@ b(\n        1)", "\n"), ("@c", "")),
    ),
    "keyword": ("f(a, b=1,\n  c=(2),)\ng(d=3)", ((", b=1", ""), (",\n  c=(2)", "\n"), ("d=3", ""))),
    "number": (
        "def f(a: Lit[1], b=3): return a[0, 1e-6]",
        (("=3", "=4"), ("=3", "=2"), ("[0", "[1"), ("[0", "[(-1)"), ("1e-6", "2e-06")),
    ),
    "statement": (
        "a = f(\n)\nb.c = a\na, d[0] = g(a)\nf(\n  a)\na += 1\nraise e",
        (
            ("b.c = a", "pass"),
            ("a, d[0] = g(a)", "pass"),
            ("f(\n  a)", "pass\n"),
            ("a += 1", "pass"),
            ("raise e", "pass"),
        ),
    ),
}
"""Operator -> a snippet, and every replacement that is made of it, one at a time."""

DEAD = '''"""1 + 2"""
from a import b
__all__ = ["c", *d(1)]
def e(f: g[1] = h) -> i[2]:
    """3 + 4"""
    j: k[5]
    return f"{f + 6}"
'''


def by(operator: str, text: str) -> list[str]:
    return [mutant.made(text) for mutant in mutants_of("a/b.py", text) if mutant.operator == operator]


@pytest.mark.parametrize("operator", OPERATORS)
def test_what_an_operator_makes_and_that_all_else_stays(operator):
    text, replaced = SNIPPETS[operator]
    assert [text.count(old) for old, _ in replaced] == [1] * len(replaced)
    found = by(operator, text)
    assert sorted(found) == sorted(text.replace(old, new) for old, new in replaced)
    assert by(operator, f"# é 1 + 2\n{text}") == [f"# é 1 + 2\n{each}" for each in found]


def test_what_never_runs_is_left_alone():
    assert mutants_of("a/b.py", DEAD) == ()


def test_lines_keep_their_numbers_and_statements_are_known():
    text = "A = 1\ndef f(a=2):\n    if a > 3:\n        g(a,\n          b=4)\n"
    lines = {mutant.old: mutant.lines for mutant in mutants_of("a/b.py", text) if mutant.operator == "number"}
    assert lines == {"1": (0, 0), "2": (2, 2), "3": (3, 3), "4": (4, 5)}
    for mutant in mutants_of("a/b.py", text):
        assert mutant.made(text).count("\n") == text.count("\n")


def test_a_file_that_has_changed_since_is_named():
    mutant = mutants_of("a/b.py", "x = y + z\n")[0]
    with pytest.raises(MutationError, match=r"m: a/b\.py:1 holds '-' instead of '\+': it has changed since"):
        mutant.made("x = y - z\n")


def test_a_sample_is_drawn_by_its_seed_alone_and_spread():
    every = mutants(CATALOGUE.root, CATALOGUE.root / "impl" / "nnx")
    files = {mutant.file for mutant in every}
    assert len(every) > 300
    assert not any(file.endswith("__init__.py") for file in files)
    drawn = {seed: [mutant.id for mutant in sampled(every, len(files), seed)] for seed in range(6)}
    assert drawn[4] == [mutant.id for mutant in sampled(every, len(files), 4)]
    assert len(set(map(tuple, drawn.values()))) == 6
    assert {mutant.file for mutant in sampled(every, len(files), 0)} == files
    assert {mutant.operator for mutant in sampled(every, 160, 1)} == set(OPERATORS)
    assert sampled(every, 10**6, 0) == every


def test_whether_lines_are_run(tmp_path, monkeypatch):
    path = tmp_path / "reached_lines.py"
    path.write_text("def f(a=1):\n    if a:\n        return 2\n    return 3\n\n\ndef g(b=4):\n    return 5\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("reached_lines")
    before, seen = sys.gettrace(), {}
    for line in (1, 2, 3, 4, 7, 8):
        with watched(path, (line, line)) as reach:
            module.f()
        seen[line] = reach.yes
    assert seen == {1: True, 2: True, 3: True, 4: False, 7: False, 8: False}
    assert sys.gettrace() is before
    with watched(path, (0, 0)) as reach:
        pass
    assert reach.yes
