"""The rewrites under which two spellings of one value meet. Each keeps every bit, the payload of a NaN aside.

Applied while the graph is built, operands first, until none applies. `RULES` is the whole list, name -> what it does;
a proof tells which of them it used, and a property test runs both forms of each on random values. Two more equalities
are not rewrites: a sharding constraint and an optimization barrier are their operand, and the order of operands of
commutative operations does not count (`harness.graph.refine.commutative`).
"""

from __future__ import annotations

from collections.abc import Callable

from harness.graph import arithmetic, folding, shapes, slices
from harness.graph.nodes import CONSTANT, Form, Graph, Key

__all__ = ["RULES", "rewritten"]

Rule = Callable[[Graph, Key, tuple[int, ...]], "int | Form | None"]


def rewritten(graph: Graph, key: Key, operands: tuple[int | Form, ...], place: object) -> int:
    """The node of `key` on `operands`, which may be forms themselves, after every rewrite that applies."""
    while True:
        nodes = tuple([o if isinstance(o, int) else rewritten(graph, *o, place) for o in operands])
        for name, rule in _BY_OPERATION.get(key.op, ()):
            found = rule(graph, key, nodes)
            if found is not None:
                graph.rewrites[name] = graph.rewrites.get(name, 0) + 1
                break
        else:
            return graph.node(key, nodes, place)
        if isinstance(found, int):
            return found
        key, operands = found


RULES: dict[str, tuple[tuple[str, ...], Rule]] = {
    "convert to its own type": (("stablehlo.convert",), shapes.same_type),
    "convert between int and uint": (("stablehlo.convert",), arithmetic.convert_between_signs),
    "reshape to its own shape": (("stablehlo.reshape",), shapes.same_type),
    "reshape twice": (("stablehlo.reshape",), shapes.reshape_twice),
    "reshape a repeated scalar": (("stablehlo.reshape",), shapes.reshaped_scalar),
    "constant of equal elements": ((CONSTANT,), shapes.splat),
    "broadcast axes of size 1": (("stablehlo.broadcast_in_dim",), shapes.unit_axes),
    "broadcast without repetition": (("stablehlo.broadcast_in_dim",), shapes.nothing_repeated),
    "broadcast twice": (("stablehlo.broadcast_in_dim",), shapes.broadcast_twice),
    "transpose twice": (("stablehlo.transpose",), shapes.transpose_twice),
    "compare the other way round": (("stablehlo.compare",), arithmetic.compare_flipped),
    "select by a negation": (("stablehlo.select",), arithmetic.select_not),
    "round to its own precision": (("stablehlo.reduce_precision",), arithmetic.own_precision),
    "square": (("chlo.square",), arithmetic.square),
    "divide by a power of two": (("stablehlo.divide",), arithmetic.divide_by_power),
    "concatenate twice": (("stablehlo.concatenate",), shapes.concatenate_twice),
    "transpose axes of size 1": (("stablehlo.transpose",), slices.transpose_of_units),
    "arithmetic on whole numbers": (folding.FOLDED, folding.folded),
    "select by a known truth": (("stablehlo.select",), folding.select_known),
    "slice at a known place": (("stablehlo.dynamic_slice",), slices.slice_where_known),
    "slice everything": (("stablehlo.slice",), slices.slice_everything),
    "slice twice": (("stablehlo.slice",), slices.slice_of_slice),
    "slice a concatenation": (("stablehlo.slice",), slices.slice_of_concatenation),
    "slice an update": (("stablehlo.slice",), slices.slice_of_update),
    "slice a repeated scalar": (("stablehlo.slice",), slices.slice_of_repeated),
    "slice a transpose": (("stablehlo.slice",), slices.slice_of_transpose),
    "update at a known place": (("stablehlo.dynamic_update_slice",), slices.update_where_known),
    "update everything": (("stablehlo.dynamic_update_slice",), slices.update_everything),
    "sum over axes of size 1": (("stablehlo.reduce",), arithmetic.sum_of_one),
    "sort sums of squares": (("stablehlo.sort",), arithmetic.sorted_squares),
}
"""name -> (operations that it applies to, the rule)."""

_BY_OPERATION: dict[str, list[tuple[str, Rule]]] = {}
for _name, (_operations, _rule) in RULES.items():
    for _operation in _operations:
        _BY_OPERATION.setdefault(_operation, []).append((_name, _rule))
