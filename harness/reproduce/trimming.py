"""Which of the imported modules a case has a use for. The others are left out; where they are imported, a stub stands.

A module is kept if one of its functions ran, or if a kept module uses a name of it where it does run: at its top
level, in a class body, or in a function that ran. What a package itself imports is kept with the package.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

__all__ = ["STUB", "trimmed"]

STUB = b'''"""Left out of this file: the case imports this module, and runs nothing of it."""


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (Exception,), {"__module__": __name__})
'''

Ran = Collection[tuple[str, int]]
"""(path in the closure, line on which the function's code begins) of every function that ran."""


@dataclass(frozen=True, kw_only=True)
class _Import:
    """`module` is bound to, or imported for, `names`. exported: it stands in a package, whose names others ask for."""

    module: str
    names: frozenset[str]
    exported: bool


def trimmed(sources: Mapping[str, bytes], roots: Collection[str], ran: Ran) -> dict[str, bytes]:
    """`sources` (path -> bytes) without the modules that are of no use, and with a STUB where one is imported still.

    roots: modules that the case imports by name.
    """
    paths = {_module(path): path for path in sources if path.endswith(".py")}
    trees = {module: ast.parse(sources[path]) for module, path in paths.items()}
    live = {module: {line for path, line in ran if path == paths[module]} for module in paths}
    waiting = [module for module in paths if live[module] or module in roots]
    kept: set[str] = set()
    named: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module in kept or module not in paths:
            continue
        kept.add(module)
        waiting.append(module.rpartition(".")[0])
        package = paths[module].endswith("/__init__.py")
        nodes = list(_running(trees[module], live[module]))
        used = {node.id for node in nodes if isinstance(node, ast.Name)}
        for found in _imports(nodes, module if package else module.rpartition(".")[0], exported=package):
            named.add(found.module)
            if found.exported or found.names & used or "*" in found.names:
                waiting.append(found.module)
    above = {".".join(name.split(".")[:depth]) for name in named for depth in range(1, name.count(".") + 1)}
    stubs = {paths[module]: STUB for module in (named | above) - kept if module in paths}
    return {path: stubs.get(path, content) for path, content in sources.items() if _stays(path, kept, stubs)}


def _stays(path: str, kept: set[str], stubs: Mapping[str, bytes]) -> bool:
    return not path.endswith(".py") or path in stubs or _module(path) in kept


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _running(tree: ast.AST, live: set[int]) -> Iterator[ast.AST]:
    """The nodes that run: all but the bodies, and deferred annotations, of functions that never ran."""
    deferred = any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__" and node.names[0].name == "annotations"
        for node in ast.iter_child_nodes(tree)
    )

    def within(node: ast.AST) -> Iterator[ast.AST]:
        yield node
        inside = list(ast.iter_child_nodes(node))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            begin = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            defaults = [*node.args.defaults, *(each for each in node.args.kw_defaults if each is not None)]
            types = [] if deferred else [node.args, *([node.returns] if node.returns else [])]
            inside = [*node.decorator_list, *defaults, *types, *(node.body if begin in live else [])]
        elif isinstance(node, ast.AnnAssign) and deferred:
            inside = [node.target, *([node.value] if node.value else [])]
        for each in inside:
            yield from within(each)

    yield from within(tree)


def _imports(nodes: list[ast.AST], package: str, *, exported: bool) -> Iterator[_Import]:
    """What these nodes import; `from a import b` may mean the module a.b, and means a in any case."""
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                yield _Import(module=alias.name, names=frozenset((bound,)), exported=exported)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            place = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                names = frozenset((alias.asname or alias.name,))
                yield _Import(module=place, names=names, exported=exported)
                yield _Import(module=f"{place}.{alias.name}", names=names, exported=exported)
