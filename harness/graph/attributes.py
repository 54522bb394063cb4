"""MLIR attributes and types as plain values, each read once."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from jax.extend.mlir import ir

from harness.graph.nodes import Attributes, Type

__all__ = ["Cache", "Splat", "spelled"]

_UNSAID = frozenset({"jax.result_info", "sym_name"})
"""Attributes that change no value."""

_DEFAULTS = {
    "api_version": ("1 : i32",),
    "backend_config": ('""',),
    "called_computations": ("[]",),
    "has_side_effect": ("false",),
    "indices_are_sorted": ("false",),
    "is_stable": ("false",),
    "lower": ("false",),
    "result_accuracy": ("#stablehlo.result_accuracy<mode = #stablehlo.result_accuracy_mode<DEFAULT>>",),
    "unique_indices": ("false",),
}
"""Attribute -> how MLIR spells what StableHLO's specification takes if it is left out."""

_ONES = frozenset({"base_dilations", "lhs_dilation", "rhs_dilation", "window_dilations", "window_strides"})
"""Attributes that are ones if they are left out."""

_NOTES = "mhlo.frontend_attributes"
"""Notes of the front end: to a custom call they may be parameters, to everything else they are hints."""


class Splat(NamedTuple):
    """A constant whose elements are all `element`: "0.1 : f32", in as few digits as tell it from every other."""

    element: str


class Cache:
    """Reads the attributes and types of one module; equal ones, of which there are few, are read once."""

    def __init__(self) -> None:
        self._values: dict[Any, object] = {}
        self._types: dict[Any, Type] = {}

    def type(self, found: Any) -> Type:
        """Shape and element type."""
        known = self._types.get(found)
        if known is None:
            known = self._types[found] = _type(found)
        return known

    def attributes(self, operation: Any) -> Attributes:
        """Every attribute that matters to values, by name. Lists of integers become tuples, the rest its text."""
        found = operation.attributes
        unsaid = _UNSAID if operation.name == "stablehlo.custom_call" else _UNSAID | {_NOTES}
        told = [(name, self.value(found[name])) for name in sorted(_names(found)) if name not in unsaid]
        return tuple([each for each in told if not _said_by_default(*each)])

    def value(self, attribute: Any) -> object:
        """One attribute."""
        known = self._values.get(attribute)
        if known is None:
            known = self._values[attribute] = _value(attribute)
        return known


def _said_by_default(name: str, value: object) -> bool:
    """Whether leaving the attribute out says the same: whatever went through a file has lost it."""
    if name == "precision_config":
        return str(value).count("DEFAULT") == str(value).count("precision ")
    if name in _ONES:
        return isinstance(value, tuple) and set(value) <= {1}
    return str(value) in _DEFAULTS.get(name, ())


def _names(found: Any) -> list[str]:
    # Iterating gives names in newer versions of the bindings, named attributes in older ones.
    return [entry if isinstance(entry, str) else entry.name for entry in found]


def _type(found: Any) -> Type:
    if isinstance(found, ir.RankedTensorType) and found.has_static_shape and found.encoding is None:
        return Type(tuple(found.shape), str(found.element_type))
    return Type((-1,), str(found))


def _value(attribute: Any) -> object:
    if isinstance(attribute, ir.DenseI64ArrayAttr):
        return tuple(attribute)
    if isinstance(attribute, ir.DenseElementsAttr) and attribute.is_splat:
        return Splat(_spelled(attribute.get_splat_value()))
    return str(attribute)


def spelled(number: float, element: str) -> str:
    """A number of type `element` in as few digits as tell it from every other: one spelling for one value."""
    return f"{np.float32(number) if element == 'f32' else float(number)!s} : {element}"


def _spelled(element: Any) -> str:
    if isinstance(element, ir.FloatAttr) and not math.isnan(element.value):
        return spelled(element.value, str(element.type))
    return str(element)
