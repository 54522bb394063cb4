"""Sizes, names and dangerous calls: laws that one file keeps or breaks by itself. Each returns its offences as text."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import PurePosixPath

LINES, FUNCTION_LINES, ARGUMENTS = 250, 40, 6

VAGUE = {"base", "common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"}

UNPICKLERS = {"cloudpickle", "dill", "joblib", "pickle", "shelve"}


def long_file(source: str) -> list[str]:
    """A file of more than LINES lines."""
    count = len(source.splitlines())
    return [f"{count} lines, at most {LINES} are readable"] if count > LINES else []


def vague_name(path: str) -> list[str]:
    """A file or folder whose name says nothing about what is in it."""
    parts = (*PurePosixPath(path).parts[:-1], PurePosixPath(path).stem)
    return [f"{part!r} says nothing: name what is in it" for part in parts if part in VAGUE]


def long_functions(source: str) -> list[str]:
    """Functions of more than FUNCTION_LINES lines, docstring included and decorators not."""
    found = []
    for function, _ in functions(ast.parse(source)):
        count = (function.end_lineno or function.lineno) - function.lineno + 1
        if count > FUNCTION_LINES:
            found.append(f"{function.name} has {count} lines, at most {FUNCTION_LINES}")
    return found


def many_arguments(source: str) -> list[str]:
    """Functions that take more than ARGUMENTS arguments; self and cls are not counted."""
    found = []
    for function, inside_class in functions(ast.parse(source)):
        names = [argument.arg for argument in parameters(function)]
        bound = inside_class and names[:1] in (["self"], ["cls"], ["mcs"])
        count = len(names) - bound
        if count > ARGUMENTS:
            found.append(f"{function.name} takes {count} arguments, at most {ARGUMENTS}: make a record of them")
    return found


def unpickled(source: str) -> list[str]:
    """Imports of anything that unpickles, and every allow_pickle that is not literally False."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        else:
            modules = []
        found += [f"imports {module}" for module in modules if module.partition(".")[0] in UNPICKLERS]
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            refused = isinstance(node.value, ast.Constant) and node.value.value is False
            found += [] if refused else [f"line {node.value.lineno}: allow_pickle={ast.unparse(node.value)}"]
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "numpy.load"):
            said = any(keyword.arg == "allow_pickle" for keyword in node.keywords)
            found += [] if said else [f"line {node.lineno}: np.load without allow_pickle=False"]
    return found


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST, *, within: str = "module") -> Iterator[tuple[Function, bool]]:
    """Every function at any depth, and whether it stands directly in a class."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield node, within == "class"
        deeper = "class" if isinstance(node, ast.ClassDef) else "function" if isinstance(node, Function) else within
        yield from functions(node, within=deeper)


def parameters(function: Function) -> list[ast.arg]:
    """Every parameter, *args and **kwargs too, in the order in which they are written."""
    spec = function.args
    starred = [argument for argument in (spec.vararg, spec.kwarg) if argument is not None]
    return [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, *starred]
