"""What a module shows to others: __all__, and functions without switches."""

from __future__ import annotations

import ast

from tests.house.shape import Function, parameters


def exports(source: str) -> list[str] | None:
    """The names in __all__, None without one."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            return list(ast.literal_eval(node.value))
    return None


def defined(source: str) -> set[str]:
    """Public functions and classes of a module. Constants and aliases are the module's own affair until exported."""
    nodes = [node for node in ast.parse(source).body if isinstance(node, Function | ast.ClassDef)]
    return {node.name for node in nodes if not node.name.startswith("_")}


def bound(source: str) -> set[str]:
    """Every name that the module's top level defines, assigns or imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def rank(name: str) -> tuple[int, str]:
    """Where a name stands in a sorted __all__: constants, then classes, then functions."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2, name)


def bad_all(source: str) -> list[str]:
    """What is wrong with a public module's __all__: absent, unsorted, incomplete, or naming what is not there."""
    names = exports(source)
    if names is None:
        empty = not [node for node in ast.parse(source).body if not isinstance(node, ast.Expr)]
        return [] if empty else ["has no __all__"]
    found = [] if names == sorted(set(names), key=rank) else [f"__all__ is not sorted: {sorted(set(names), key=rank)}"]
    found += [f"{name} is public and not in __all__" for name in sorted(defined(source) - set(names))]
    return found + [f"__all__ names {name}, which is not there" for name in sorted(set(names) - bound(source))]


def switches(source: str) -> list[str]:
    """Parameters of public functions and methods that are bool, or whose default is True, False or None.

    A record's fields are data and are not looked at.
    """
    found = []
    for function, owner in _public(ast.parse(source)):
        for argument in parameters(function):
            annotation = ast.unparse(argument.annotation) if argument.annotation else ""
            if annotation.strip("'\"") == "bool":
                found.append(f"{owner}{function.name}({argument.arg}: bool)")
        for name, default in _defaults(function):
            if isinstance(default, ast.Constant) and (default.value is None or isinstance(default.value, bool)):
                found.append(f"{owner}{function.name}({name}={default.value})")
    return sorted(set(found))


def _public(tree: ast.Module) -> list[tuple[Function, str]]:
    """Functions of the top level and methods of its classes whose names do not begin with one underscore."""
    members: list[tuple[ast.stmt, str]] = [(node, "") for node in tree.body]
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            members += [(part, f"{node.name}.") for part in node.body]
    return [
        (node, owner)
        for node, owner in members
        if isinstance(node, Function) and (not node.name.startswith("_") or node.name.startswith("__"))
    ]


def _defaults(function: Function) -> list[tuple[str, ast.expr]]:
    spec = function.args
    positional = [*spec.posonlyargs, *spec.args]
    with_default = positional[len(positional) - len(spec.defaults) :]
    pairs = list(zip((argument.arg for argument in with_default), spec.defaults, strict=True))
    return pairs + [(a.arg, d) for a, d in zip(spec.kwonlyargs, spec.kw_defaults, strict=True) if d is not None]
