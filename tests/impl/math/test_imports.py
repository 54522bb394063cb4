"""`impl.math` needs jax, the standard library and itself: no framework, nothing else of this project."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import impl.math

FOLDER = Path(impl.math.__file__).parent
FILES = sorted(FOLDER.glob("*.py"))


def foreign(source):
    """Modules that `source` imports and `impl.math` may not."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append("." * node.level + (node.module or ""))
    allowed = sys.stdlib_module_names | {"jax"}
    return [name for name in names if name.split(".")[0] not in allowed and not name.startswith("impl.math")]


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_imports_jax_only(path):
    assert foreign(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import jax, flax.linen as nn", ["flax.linen"]),
        ("def f():\n    from flax import nnx", ["flax"]),
        ("from impl.config import ModelConfig", ["impl.config"]),
        ("from ..config import ModelConfig", ["..config"]),
        ("import numpy as np\nimport math", ["numpy"]),
    ],
)
def test_the_check_sees_what_it_looks_for(source, found):
    assert foreign(source) == found


def test_nothing_loads_flax_behind_the_scenes():
    modules = [f"impl.math.{path.stem}" for path in FILES if path.stem != "__init__"]
    assert len(modules) >= 9
    program = f"import sys, {', '.join(modules)}\nprint('jax' in sys.modules, 'flax' in sys.modules)"
    root = FOLDER.parent.parent
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
