"""Rewrites by exact arithmetic on whole numbers: a loop's counter, once known, makes every index in its body known.

Scalars only, booleans and integers of up to 64 bits, wrapping as two's complement does.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.graph.attributes import Splat
from harness.graph.nodes import CONSTANT, Form, Graph, Key

__all__ = ["FOLDED", "folded", "known", "select_known"]

_ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "stablehlo.add": lambda a, b: a + b,
    "stablehlo.subtract": lambda a, b: a - b,
    "stablehlo.multiply": lambda a, b: a * b,
    "stablehlo.maximum": max,
    "stablehlo.minimum": min,
    "stablehlo.and": lambda a, b: a & b,
    "stablehlo.or": lambda a, b: a | b,
}
_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "EQ": lambda a, b: a == b,
    "NE": lambda a, b: a != b,
    "LT": lambda a, b: a < b,
    "LE": lambda a, b: a <= b,
}
FOLDED = (*_ARITHMETIC, "stablehlo.compare", "stablehlo.convert", "stablehlo.not")
"""Operations that `folded` computes."""


def known(graph: Graph, node: int) -> int | None:
    """The whole number (or truth) that a scalar node is, None if it is none or is not known."""
    key = graph.keys[node]
    value = key.attribute("value")
    if key.op != CONSTANT or key.type.shape != () or not isinstance(value, Splat):
        return None
    word = value.element.partition(" : ")[0]
    if word in ("true", "false"):
        return int(word == "true")
    return int(word) if _bits(key.type.element) and word.lstrip("-").isdigit() else None


def folded(graph: Graph, key: Key, operands: tuple[int, ...]) -> Form | None:
    """The constant that an operation on known scalars is."""
    if key.type.shape != () or not _bits(key.type.element):
        return None
    values = [known(graph, operand) for operand in operands]
    numbers = [value for value in values if value is not None]
    if len(numbers) != len(values) or not values:
        return None
    if key.op == "stablehlo.compare":
        text = str(key.attribute("comparison_direction"))
        result = next((int(compare(*numbers)) for word, compare in _COMPARISONS.items() if word in text), None)
    elif key.op == "stablehlo.not":
        result = ~numbers[0]
    elif key.op == "stablehlo.convert":
        # To a truth it is a comparison with 0; between integers it keeps the low bits.
        result = int(numbers[0] != 0) if key.type.element == "i1" else numbers[0]
    else:
        result = _ARITHMETIC[key.op](*numbers)
    return None if result is None else _constant(key, result)


def select_known(graph: Graph, key: Key, operands: tuple[int, ...]) -> int | None:
    """A choice by a known truth is what is chosen."""
    chooser, yes, no = operands
    truth = known(graph, chooser)
    return None if truth is None else (yes if truth else no)


def _bits(element: str) -> int:
    """Width of an integer type, 0 of any other."""
    digits = element.removeprefix("u").removeprefix("i")
    return int(digits) if element.startswith(("i", "ui")) and digits.isdigit() else 0


def _constant(key: Key, number: int) -> Form:
    element, bits = key.type.element, _bits(key.type.element)
    low = number & (2**bits - 1)
    if element == "i1":
        text = "true" if low else "false"
    else:
        text = str(low if element.startswith("u") or low < 2 ** (bits - 1) else low - 2**bits)
    return Key(CONSTANT, (("value", Splat(f"{text} : {element}")),), key.type), ()
