"""Rewrites of comparisons, powers of two, conversions and sums. A rule gives the other form, or None: not here."""

from __future__ import annotations

import math

from harness.graph.attributes import Splat, spelled
from harness.graph.nodes import ARGUMENT, CONSTANT, SET, Form, Graph, Key, Type
from harness.graph.shapes import broadcast

__all__ = [
    "compare_flipped",
    "convert_between_signs",
    "divide_by_power",
    "own_precision",
    "select_not",
    "sorted_squares",
    "square",
    "sum_of_one",
]

_BROADCAST, _RESHAPE, _CONVERT = "stablehlo.broadcast_in_dim", "stablehlo.reshape", "stablehlo.convert"
_WIDTHS = {"i8": 8, "ui8": 8, "i16": 16, "ui16": 16, "i32": 32, "ui32": 32, "i64": 64, "ui64": 64}
_ZEROS = ("Splat(element='0.0", "Splat(element='0")
_PRECISION = {"f64": ("11", "52"), "f32": ("8", "23"), "bf16": ("8", "7"), "f16": ("5", "10")}
_EXPONENTS = {"f32": 126, "bf16": 126, "f64": 1022, "f16": 14}
"""A power of two up to this exponent has a reciprocal that is a normal number."""


def compare_flipped(graph: Graph, key: Key, operands: tuple[int, ...]) -> Form | None:
    """a > b is b < a, and a >= b is b <= a."""
    text = str(key.attribute("comparison_direction"))
    for greater, less in (("GT", "LT"), ("GE", "LE")):
        if greater in text:
            attributes = {**dict(key.attributes), "comparison_direction": text.replace(greater, less)}
            return key._replace(attributes=tuple(attributes.items())), operands[::-1]
    return None


def select_not(graph: Graph, key: Key, operands: tuple[int, ...]) -> Form | None:
    """Choosing by the negation is choosing the other."""
    chooser, yes, no = operands
    return (key, (*graph.operands[chooser], no, yes)) if graph.keys[chooser].op == "stablehlo.not" else None


def divide_by_power(graph: Graph, key: Key, operands: tuple[int, ...]) -> Form | None:
    """Dividing by a power of two is multiplying by its reciprocal, where that is a normal number."""
    constant, found = _scalar(graph, operands[1])
    most = _EXPONENTS.get(key.type.element, 0)
    if constant < 0 or not isinstance(found, float) or found <= 0.0 or math.isinf(found):
        return None
    fraction, exponent = math.frexp(found)
    if fraction != 0.5 or abs(exponent - 1) > most:
        return None
    text = spelled(1.0 / found, key.type.element)
    scalar = graph.node(Key(CONSTANT, (("value", Splat(text)),), Type((), key.type.element)), (), None)
    factor = scalar if key.type.shape == () else graph.node(broadcast(key.type, ()), (scalar,), None)
    return key._replace(op="stablehlo.multiply"), (operands[0], factor)


def convert_between_signs(graph: Graph, key: Key, operands: tuple[int, ...]) -> int | Form | None:
    """Between int and uint of one width, conversion keeps the bits: there and back is nothing, a sum may come after."""
    below = graph.keys[operands[0]]
    widths = _WIDTHS.get(key.type.element), _WIDTHS.get(below.type.element)
    if widths[0] is None or widths[0] != widths[1]:
        return None
    if below.op == _CONVERT:
        source = graph.operands[operands[0]][0]
        return source if graph.keys[source].type == key.type else None
    if below.op in ("stablehlo.add", "stablehlo.subtract", "stablehlo.multiply"):
        parts = tuple((key, (operand,)) for operand in graph.operands[operands[0]])
        return below._replace(type=key.type), parts
    if below.op == _BROADCAST and below.type.shape != ():
        inner = graph.operands[operands[0]]
        narrow = key._replace(type=Type(graph.keys[inner[0]].type.shape, key.type.element))
        return below._replace(type=key.type), ((narrow, inner),)
    value = below.attribute("value")
    if below.op == CONSTANT and isinstance(value, Splat) and value.element.split()[0].isdigit():
        number = int(value.element.split()[0])
        if number < 2 ** (widths[0] - 1):
            return Key(CONSTANT, (("value", Splat(f"{number} : {key.type.element}")),), key.type), ()
    return None


def sum_of_one(graph: Graph, key: Key, operands: tuple[int, ...]) -> Form | None:
    """A sum over axes of size 1 is what is summed. (StableHLO leaves open whether a sum starts from its zero.)"""
    axes = key.attribute("dimensions")
    if len(operands) != 3 or not isinstance(axes, tuple) or not _adds_up(graph, operands):
        return None
    shape = graph.keys[operands[0]].type.shape
    return (Key(_RESHAPE, (), key.type), operands[:1]) if all(shape[axis] == 1 for axis in axes) else None


def _adds_up(graph: Graph, operands: tuple[int, ...]) -> bool:
    """Whether a reduction of (array, start, region) is a sum that starts from zero."""
    _, start, region = operands
    if graph.keys[region].op != "stablehlo.add" or graph.keys[start].op != CONSTANT:
        return False
    terms = graph.operands[region]
    zero = str(graph.keys[start].attribute("value")).partition(" : ")[0]
    return terms[0] != terms[1] and all(graph.keys[term].op == ARGUMENT for term in terms) and zero in _ZEROS


def sorted_squares(graph: Graph, key: Key, operands: tuple[int, ...]) -> Form | None:
    """Sums of squares, put side by side and sorted: in which order they were put does not matter.

    They hold no -0, so that equal ones are the same bits.
    """
    below = graph.keys[operands[0]]
    if below.op != "stablehlo.concatenate" or len(key.type.shape) != 1 or key.result != 0:
        return None
    parts = graph.operands[operands[0]]
    if not all(_sum_of_squares(graph, part) for part in parts):
        return None
    return key, ((Key(SET, (), below.type), parts), *operands[1:])


def _sum_of_squares(graph: Graph, node: int) -> bool:
    """Whether `node` is a square or a sum of squares, reshaped or converted at most."""
    while graph.keys[node].op in (_RESHAPE, _CONVERT):
        node = graph.operands[node][0]
    if graph.keys[node].op == "stablehlo.reduce" and len(graph.operands[node]) == 3:
        if not _adds_up(graph, graph.operands[node]):
            return False
        node = graph.operands[node][0]
    factors = graph.operands[node]
    return graph.keys[node].op == "stablehlo.multiply" and factors[0] == factors[1]


def _scalar(graph: Graph, node: int) -> tuple[int, object]:
    """The scalar constant that `node` is or repeats, and its value if that is a float; (-1, None) if it is neither."""
    if graph.keys[node].op == _BROADCAST:
        node = graph.operands[node][0]
    value = graph.keys[node].attribute("value")
    if graph.keys[node].op != CONSTANT or not isinstance(value, Splat):
        return -1, None
    word, _, element = value.element.partition(" : ")
    try:
        return node, float(word) if element in _EXPONENTS else None
    except ValueError:
        return node, None  # not a decimal: the bits of a NaN or an infinity


def own_precision(graph: Graph, key: Key, operands: tuple[int, ...]) -> int | None:
    """Rounding to the precision that a value has is nothing. (jax.checkpoint rounds what it saves that way.)"""
    bits = tuple(str(key.attribute(name)).partition(" : ")[0] for name in ("exponent_bits", "mantissa_bits"))
    return operands[0] if bits == _PRECISION.get(key.type.element) else None


def square(graph: Graph, key: Key, operands: tuple[int, ...]) -> Form | None:
    """A square is a product with itself; a complex one is left alone."""
    real = key.type.shape != (-1,) and not key.type.element.startswith("complex")
    return (Key("stablehlo.multiply", (), key.type), operands * 2) if real else None
