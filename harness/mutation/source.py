"""A Python file as a syntax tree whose nodes know their bytes, their parents, and whether they may be mutated."""

from __future__ import annotations

import ast
import re
from functools import cached_property

__all__ = ["Source"]

COMMENT = re.compile(rb"#[^\n]*")
Owner = ast.FunctionDef | ast.AsyncFunctionDef


class Source:
    """`text` is UTF-8 text of a module. Raises SyntaxError if it is no Python."""

    def __init__(self, text: str):
        self.content = text.encode()
        self.tree = ast.parse(text)
        self._lines = [0]
        for line in self.content.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self.parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    def start(self, node: ast.AST) -> int:
        """Offset of the node's first byte."""
        return self._lines[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]

    def end(self, node: ast.AST) -> int:
        """Offset after the node's last byte."""
        return self._lines[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]

    def text(self, start: int, end: int) -> str:
        """The text between two offsets."""
        return self.content[start:end].decode()

    def of(self, node: ast.AST) -> str:
        """The node's text."""
        return self.text(self.start(node), self.end(node))

    def line(self, offset: int) -> int:
        """The number of the line that holds the byte at `offset`."""
        return self.content.count(b"\n", 0, offset) + 1

    def between(self, left: ast.AST, right: ast.AST, pattern: str) -> tuple[int, int]:
        """Where `pattern` stands between two nodes, comments apart. Raises ValueError if it does not."""
        start = self.end(left)
        gap = COMMENT.sub(lambda found: b" " * len(found.group()), self.content[start : self.start(right)])
        found = re.search(pattern.encode(), gap)
        if found is None:
            raise ValueError(
                f"line {self.line(start)}: no {pattern!r} between {self.of(left)!r} and {self.of(right)!r}"
            )
        return start + found.start(), start + found.end()

    @cached_property
    def living(self) -> tuple[ast.AST, ...]:
        """Nodes that run and may be mutated, in the order of the file.

        Left out: annotations, docstrings, imports, `__all__`, and what stands in an f-string, whose bytes are not
        known on every version of Python.
        """
        found: list[ast.AST] = []
        waiting: list[ast.AST] = [self.tree]
        while waiting:
            node = waiting.pop()
            if _dead(node):
                continue
            found.append(node)
            waiting += [child for child in ast.iter_child_nodes(node) if child not in _annotations(node)]
        placed = [node for node in found if hasattr(node, "lineno")]
        return tuple(sorted(placed, key=lambda node: (self.start(node), -self.end(node))))

    def lines(self, node: ast.AST) -> tuple[int, int]:
        """First and last line of the statement around `node`; of `node` itself if that statement has a body.

        Of a parameter's default: of the lines at which a call of the function begins. (0, 0) if it runs on import.
        """
        statement = node
        while not isinstance(statement, ast.stmt):
            statement = self.parents[statement]
        outer: ast.AST | None = self.parents.get(statement)
        while outer is not None and not isinstance(outer, Owner):
            outer = self.parents.get(outer)
        if isinstance(statement, Owner) and self._is_default(node, statement):
            return min([statement.lineno, *(each.lineno for each in statement.decorator_list)]), statement.lineno
        if outer is None:
            return 0, 0
        if isinstance(getattr(statement, "body", None), list):
            return node.lineno, node.end_lineno or node.lineno  # type: ignore[attr-defined]
        return statement.lineno, statement.end_lineno or statement.lineno

    def _is_default(self, node: ast.AST, function: Owner) -> bool:
        while node is not function.args and node is not function:
            node = self.parents[node]
        return node is function.args


def _dead(node: ast.AST) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom | ast.JoinedStr):
        return True
    if isinstance(node, ast.Assign):
        return [ast.unparse(target) for target in node.targets] == ["__all__"]
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _annotations(node: ast.AST) -> tuple[ast.AST, ...]:
    fields = (getattr(node, "annotation", None), getattr(node, "returns", None))
    return tuple(field for field in fields if isinstance(field, ast.AST))
