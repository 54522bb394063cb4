"""Branches on the side: what differs between Linen and NNX is chosen in one table, not wherever it is convenient."""

from __future__ import annotations

import ast
import re

WORD = re.compile(r"(?<![a-z])(linen|nnx)(?![a-z])", re.IGNORECASE)


def side_branches(source: str) -> list[str]:
    """Conditions of if, elif, while, match, conditional expressions and comprehensions that name a framework."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(source)):
        conditions: list[ast.expr | ast.pattern] = []
        if isinstance(node, ast.If | ast.While | ast.IfExp):
            conditions = [node.test]
        elif isinstance(node, ast.comprehension):
            conditions = list(node.ifs)
        elif isinstance(node, ast.Match):
            conditions = [node.subject, *(case.pattern for case in node.cases)]
        for condition in conditions:
            if names := _named(condition):
                found.append((condition.lineno, f"line {condition.lineno}: a condition on {', '.join(names)}"))
    return [sentence for _, sentence in sorted(found)]


def _named(condition: ast.AST) -> list[str]:
    """The words in a condition that name a framework: as text, as a variable or as an attribute."""
    words = []
    for node in ast.walk(condition):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            words.append(node.value)
        elif isinstance(node, ast.Name):
            words.append(node.id)
        elif isinstance(node, ast.Attribute):
            words.append(node.attr)
    return sorted({word for word in words if WORD.search(word)})
