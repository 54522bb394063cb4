"""Mutation operators on the syntax tree. Each yields (start, end, new): bytes to be replaced and what by.

They are our own: cosmic-ray's and mutmut's (both maintained) would bring sqlalchemy, aiohttp and a terminal toolkit,
and leave out what matters in array code: axes, swapped arguments, keywords that fall back to their defaults.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from harness.mutation.source import Source

__all__ = ["OPERATORS", "Change", "Operator"]

Change = tuple[int, int, str]
Operator = Callable[[Source, ast.AST], Iterator[Change]]

ARITHMETIC: Mapping[type[ast.operator], tuple[str, str]] = {
    ast.Add: (r"\+", "-"),
    ast.Sub: (r"-", "+"),
    ast.Mult: (r"\*", "/"),
    ast.Div: (r"/", "*"),
    ast.FloorDiv: (r"//", "*"),
    ast.Mod: (r"%", "//"),
    ast.Pow: (r"\*\*", "*"),
}
COMPARISONS: Mapping[type[ast.cmpop], tuple[str, str]] = {
    ast.Eq: (r"==", "!="),
    ast.NotEq: (r"!=", "=="),
    ast.Lt: (r"<", "<="),
    ast.LtE: (r"<=", "<"),
    ast.Gt: (r">", ">="),
    ast.GtE: (r">=", ">"),
    ast.Is: (r"\bis\b", "is not"),
    ast.IsNot: (r"\bis\s+not\b", "is"),
    ast.In: (r"\bin\b", "not in"),
    ast.NotIn: (r"\bnot\s+in\b", "in"),
}
AXES = frozenset({"axes", "axis", "dim", "dimension", "in_axes", "out_axes", "param_scan_axis", "split_axis"})


def _arithmetic(source: Source, node: ast.AST) -> Iterator[Change]:
    """+ and -, * and /, % and //, ** and *; a minus sign goes."""
    if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        pattern, new = ARITHMETIC[type(node.op)]
        yield (*source.between(node.left, node.right, pattern), new)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield source.start(node), source.start(node) + 1, ""


def _comparison(source: Source, node: ast.AST) -> Iterator[Change]:
    """Equal and not equal, a bound in and out, is, in and their opposites."""
    if isinstance(node, ast.Compare):
        for (left, right), op in zip(pairwise((node.left, *node.comparators)), node.ops, strict=True):
            pattern, new = COMPARISONS[type(op)]
            yield (*source.between(left, right, pattern), new)


def _boolean(source: Source, node: ast.AST) -> Iterator[Change]:
    """True and False, and and or; a `not` goes."""
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield source.start(node), source.end(node), str(not node.value)
    elif isinstance(node, ast.BoolOp):
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in pairwise(node.values):
            yield (*source.between(left, right, rf"\b{old}\b"), new)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield source.start(node), source.start(node.operand), ""


def _number(source: Source, node: ast.AST) -> Iterator[Change]:
    """A whole number one up and one down; another doubled, and 0.0 made 1.0. Not those that say an axis."""
    if _is_number(node) and not _says_axis(source, node):
        yield from _other_numbers(source, node)


def _axis(source: Source, node: ast.AST) -> Iterator[Change]:
    """A number below axis=, dimension= and the like, one up and one down."""
    if _is_number(node) and _says_axis(source, node):
        yield from _other_numbers(source, node)


def _statement(source: Source, node: ast.AST) -> Iterator[Change]:
    """A call for its effect, a raise, or an assignment to something that was there before, becomes `pass`."""
    if isinstance(node, ast.Expr | ast.AugAssign | ast.Raise) or (isinstance(node, ast.Assign) and _again(node)):
        yield _padded(source, source.start(node), source.end(node), "pass")


def _argument(source: Source, node: ast.AST) -> Iterator[Change]:
    """Two positional arguments side by side change places."""
    if isinstance(node, ast.Call):
        for left, right in pairwise(node.args):
            if isinstance(left, ast.Starred) or isinstance(right, ast.Starred):
                continue
            middle = source.text(source.end(left), source.start(right))
            yield source.start(left), source.end(right), source.of(right) + middle + source.of(left)


def _decorator(source: Source, node: ast.AST) -> Iterator[Change]:
    """A decorator goes."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        for each in node.decorator_list:
            sign = source.content.rindex(b"@", 0, source.start(each))
            yield _padded(source, sign, source.end(each), "")


def _keyword(source: Source, node: ast.AST) -> Iterator[Change]:
    """A keyword argument goes, and its parameter falls back to its default."""
    if isinstance(node, ast.Call):
        every: list[ast.AST] = sorted([*node.args, *node.keywords], key=source.start)
        for place, each in enumerate(every):
            if not (isinstance(each, ast.keyword) and each.arg):
                continue
            if place:
                yield _padded(source, source.end(every[place - 1]), source.end(each), "")
            else:
                last = source.start(every[1]) if every[1:] else source.end(each)
                yield _padded(source, source.start(each), last, "")


def _condition(source: Source, node: ast.AST) -> Iterator[Change]:
    """The condition of an if, a while, an assert, a conditional expression or a comprehension is negated."""
    if isinstance(node, ast.If | ast.While | ast.IfExp | ast.Assert):
        tests = [node.test]
    elif isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        tests = [test for generator in node.generators for test in generator.ifs]
    else:
        return
    for test in tests:
        # A `not` is taken away, and a single comparison turned round, by the operators for those.
        turned = isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Eq | ast.NotEq | ast.Is | ast.In)
        if not turned and not (isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)):
            yield source.start(test), source.end(test), f"(not ({source.of(test)}))"


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool)


def _other_numbers(source: Source, node: ast.AST) -> Iterator[Change]:
    value: Any = node.value  # type: ignore[attr-defined]
    for other in (value + 1, value - 1) if isinstance(value, int) else (value * 2 or 1.0,):
        yield source.start(node), source.end(node), f"({other})" if other < 0 else repr(other)


def _says_axis(source: Source, node: ast.AST) -> bool:
    """Whether the number is, or is an item or entry of, what a keyword such as axis= is given."""
    while isinstance(node, ast.Constant | ast.UnaryOp | ast.Tuple | ast.List | ast.Dict):
        node = source.parents[node]
    return isinstance(node, ast.keyword) and node.arg in AXES


def _again(node: ast.Assign) -> bool:
    """Whether every target is an attribute or item, or a name that the value reads: without it another value is left.

    A name that is new would only be missing.
    """
    read = {part.id for part in ast.walk(node.value) if isinstance(part, ast.Name)}
    flat = [part for target in node.targets for part in (target.elts if isinstance(target, ast.Tuple) else (target,))]
    return all(not isinstance(part, ast.Name) or part.id in read for part in flat)


def _padded(source: Source, start: int, end: int, new: str) -> Change:
    """A replacement with as many line ends as what it replaces, so that all lines keep their numbers."""
    return start, end, new + "\n" * source.content.count(b"\n", start, end)


OPERATORS: Mapping[str, Operator] = {
    "argument": _argument,
    "arithmetic": _arithmetic,
    "axis": _axis,
    "boolean": _boolean,
    "comparison": _comparison,
    "condition": _condition,
    "decorator": _decorator,
    "keyword": _keyword,
    "number": _number,
    "statement": _statement,
}
"""Name -> operator, in the order of the names."""
