"""The laws of the house (docs/design.md), read from the source tree, and for each law a snippet that breaks it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.house import branches, imports, shape, surface

ROOT = Path(__file__).parents[1]
ROOMS = ("examples", "harness", "impl", "scenarios", "tests")
TEXTS = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for room in ROOMS
    for path in sorted((ROOT / room).rglob("*.py"))
}
MODULES = {path.removesuffix(".py").replace("/", "."): text for path, text in TEXTS.items()}
PRODUCT = {path: text for path, text in TEXTS.items() if path.startswith(("harness/", "impl/"))}

SIDE_BRANCHES = {
    "impl/linen/*": "a room of one framework names that framework's classes",
    "impl/nnx/*": "a room of one framework names that framework's classes",
    "harness/modules/nnx_parts.py": "a room of one framework names that framework's classes",
    "harness/forcing/attributes.py": "finds NNX modules by their attributes; Linen ones say their path themselves",
    "impl/checkpoint/*": "a checkpoint on disk is of one dialect or another: that is found in its keys, not in a flag",
    "impl/checkpoint_programs.py": "leaves of a checkpoint are left out by the name of the branch that holds them",
}
"""Files that may name a framework in a condition -> why. The tables that choose a side need no condition at all."""

SWITCHES = {
    "impl/linen/layers.py: dense(bias: bool)": "to have a bias is a property of a layer, and its caller always says it",
    "impl/nnx/layers.py: dense(bias: bool)": "to have a bias is a property of a layer, and its caller always says it",
}
"""Boolean parameters of public functions that are no switches -> why."""


def each(texts):
    return pytest.mark.parametrize(("path", "text"), texts.items(), ids=list(texts))


@each(TEXTS)
def test_a_file_is_short_well_named_and_unpickles_nothing(path, text):
    assert shape.long_file(text) == []
    assert shape.vague_name(path) == []
    assert shape.unpickled(text) == []


@each(TEXTS)
def test_functions_are_short_and_take_few_arguments(path, text):
    assert shape.long_functions(text) == []
    assert shape.many_arguments(text) == []


@each({path: text for path, text in TEXTS.items() if path.startswith("scenarios/")})
def test_a_scenario_is_one_idea_of_at_most_forty_lines(path, text):
    assert len(text.splitlines()) <= 40
    assert imports.unlisted(text, path.removesuffix(".py").replace("/", "."), imports.SCENARIO_MAY) == []


@each(MODULES)
def test_imports_go_one_way(path, text):
    assert imports.forbidden(text, path) == []


def test_the_maths_imports_jax_and_nothing_of_ours():
    rooms = {module: text for module, text in MODULES.items() if imports.under(module, "impl.math")}
    assert len(rooms) >= 9
    for module, text in rooms.items():
        assert imports.unlisted(text, module, ("jax", "numpy", "impl.math")) == []


def test_the_registry_imports_impl_only_when_asked():
    text = MODULES["harness.registry"]
    assert imports.early(text, "harness.registry") == []
    assert any(imports.under(found.module, "impl") for found in imports.imported(text, "harness.registry"))


@pytest.mark.parametrize("room", [f"harness.{room}" for room in imports.NUMPY_ONLY])
def test_what_judges_reaches_no_framework_even_through_others(room):
    inside = [module for module in MODULES if imports.under(module, room) and not module.endswith(".extension")]
    assert inside
    for module in inside:
        reached = imports.closure(module, MODULES)
        assert [name for name in sorted(reached) if any(imports.under(name, f) for f in imports.FRAMEWORKS)] == []


def test_what_judges_loads_no_framework_when_it_runs():
    loaded = [f"harness.{room}" for room in imports.NUMPY_ONLY]
    program = f"import sys, {', '.join(loaded)}\nprint([n for n in {imports.FRAMEWORKS} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@each({path: text for path, text in PRODUCT.items() if not path.endswith("__main__.py")})
def test_a_module_says_what_is_public(path, text):
    assert surface.bad_all(text) == []


def test_public_functions_have_no_switches():
    found = {f"{path}: {switch}" for path, text in PRODUCT.items() for switch in surface.switches(text)}
    assert found == set(SWITCHES)


def test_nothing_branches_on_the_side():
    found = {path: branches.side_branches(text) for path, text in PRODUCT.items()}
    guilty = {path: lines for path, lines in found.items() if lines}
    spared = {path for path in guilty if any(fnmatchcase(path, pattern) for pattern in SIDE_BRANCHES)}
    assert {path: lines for path, lines in guilty.items() if path not in spared} == {}
    needed = {pattern for pattern in SIDE_BRANCHES if any(fnmatchcase(path, pattern) for path in guilty)}
    # Rooms of one framework keep their licence while they happen not to use it.
    assert {p for p in SIDE_BRANCHES if p not in needed and not p.startswith(("impl/linen", "impl/nnx"))} == set()


def test_warnings_are_errors():
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    assert options["filterwarnings"][0] == "error"
    assert options["xfail_strict"] is True


LONG = "def f():\n" + "    pass\n" * 40
TAKES = "class C:\n    def m(self, a, b, c, d, e, *f, g): ...\n    def n(self, a, b, c, d, e, f): ..."
FLAGS = "def f(x: bool): ...\ndef g(*, loud=False): ...\ndef _h(x: bool): ...\n"
RECORD = "class C:\n    y: bool\n    def m(self, z=None): ..."
LIST = "__all__ = ['a', 'C', 'gone']\ndef a(): ...\ndef b(): ...\nclass C: ..."
(HARNESS_RULE,) = [rule for rule in imports.RULES if rule.room == "harness" and "impl" in rule.never]
(CHECKPOINT_RULE,) = [rule for rule in imports.RULES if rule.room == "impl.checkpoint.dialects"]
CHOICE = "import x\nif side == 'nnx': y = 1\nz = [a for a in b if a.is_linen]\nmatch c:\n    case 'linen': ...\n"


@pytest.mark.parametrize(
    ("law", "words", "found"),
    [
        (shape.long_file, ("x\n" * 251,), ["251 lines, at most 250 are readable"]),
        (shape.vague_name, ("harness/utils/read.py",), ["'utils' says nothing: name what is in it"]),
        (shape.vague_name, ("impl/base.py",), ["'base' says nothing: name what is in it"]),
        (shape.long_functions, (LONG,), ["f has 41 lines, at most 40"]),
        (shape.many_arguments, (TAKES,), ["m takes 7 arguments, at most 6: make a record of them"]),
        (shape.unpickled, ("from pickle import load",), ["imports pickle"]),
        (shape.unpickled, ("np.load(p, allow_pickle=yes)",), ["line 1: allow_pickle=yes"]),
        (shape.unpickled, ("np.load(p)",), ["line 1: np.load without allow_pickle=False"]),
        (
            imports.forbidden,
            ("def f():\n    from impl import tiny", "harness.observe"),
            [f"harness.observe imports {m}: {HARNESS_RULE.because}" for m in ("impl", "impl.tiny")],
        ),
        (
            imports.forbidden,
            ("from impl.checkpoint.derived import gpt3", "impl.checkpoint.dialects.layers"),
            [
                f"impl.checkpoint.dialects.layers imports impl.checkpoint.derived{m}: {CHECKPOINT_RULE.because}"
                for m in ("", ".gpt3")
            ],
        ),
        (
            imports.forbidden,
            ("from ..nnx.layers import dense", "impl.linen.blocks"),
            [f"impl.linen.blocks imports impl.nnx.layers{m}: {imports.RULES[1].because}" for m in ("", ".dense")],
        ),
        (
            imports.early,
            ("import impl.programs\ndef f():\n    import impl.sides", "harness.registry"),
            ["harness.registry imports impl.programs outside a function"],
        ),
        (
            imports.unlisted,
            ("import jax, flax.linen, math", "impl.math.rope", ("jax",)),
            ["impl.math.rope imports flax.linen"],
        ),
        (surface.bad_all, ("def f(): ...",), ["has no __all__"]),
        (
            surface.bad_all,
            (LIST,),
            [
                "__all__ is not sorted: ['C', 'a', 'gone']",
                "b is public and not in __all__",
                "__all__ names gone, which is not there",
            ],
        ),
        (surface.switches, (FLAGS + RECORD,), ["C.m(z=None)", "f(x: bool)", "g(loud=False)"]),
        (
            branches.side_branches,
            (CHOICE,),
            ["line 2: a condition on nnx", "line 3: a condition on is_linen", "line 5: a condition on linen"],
        ),
    ],
)
def test_each_law_sees_what_breaks_it(law, words, found):
    assert law(*words) == found


def test_the_closure_follows_imports_through_other_modules():
    sources = {"a": "from b import c", "b.__init__": "", "b.c": "import jax", "lazy": "def f():\n    import jax"}
    assert "jax" in imports.closure("a", sources)
    assert "jax" not in imports.closure("lazy", sources)
