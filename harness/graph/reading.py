"""A lowered program into the graph: calls inlined, loops as PHIs, conditionals as choices, regions as functions.

Sharding constraints and optimization barriers hand their operand through, for they change no value; they are listed
beside the outputs, to be compared on channels of their own. What may not be taken for a function of its operands
(callbacks, random numbers of the device, unknown effects) becomes a node of its own, equal to nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jax.extend.mlir import ir

from harness.graph.attributes import Cache
from harness.graph.effects import opaque
from harness.graph.folding import known
from harness.graph.nodes import ARGUMENT, LOOP_END, Graph, Key
from harness.graph.rewriting import rewritten
from harness.graph.stacks import apart, check, stacked
from harness.graph.symbols import Symbols
from harness.recorder import Lowered

__all__ = ["Mark", "Reading", "read"]

_BARRIER, _CONSTRAINT = "stablehlo.optimization_barrier", "sdy.sharding_constraint"
_RETURNS = ("func.return", "stablehlo.return", "sdy.return")
_STRANGERS = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A value that went through a barrier ("" as `text`) or a sharding constraint (its sharding), and where."""

    node: int
    text: str
    place: object


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One program in the graph. outputs, inputs: neutral name -> node.

    operations: how many were read, calls inlined and loops written out. loops: those that were not.
    """

    outputs: Mapping[str, int]
    inputs: Mapping[str, int]
    constraints: Sequence[Mark]
    barriers: Sequence[Mark]
    operations: int
    loops: int


def read(graph: Graph, lowered: Lowered, unrolled: int = 0) -> Reading:
    """Adds `lowered` to `graph`. Raises ValueError if its inputs or outputs are not those that its names say.

    unrolled: loops that are seen to end within so many iterations are written out; the others stay loops.
    """
    return _Reader(graph, lowered.ir, unrolled).read(lowered)


@dataclass
class _Reader:
    """Reading in progress. depth: loops and regions around the current operation."""

    graph: Graph
    module: Any
    unrolled: int
    cache: Cache = field(default_factory=Cache)
    constraints: list[Mark] = field(default_factory=list)
    barriers: list[Mark] = field(default_factory=list)
    depth: int = 0
    operations: int = 0
    loops: int = 0

    def __post_init__(self) -> None:
        self.symbols = Symbols(self.module)
        self.special: dict[str, Callable[[Any, dict], list[int]]] = {
            "func.call": self._call,
            "stablehlo.composite": self._composite,
            "stablehlo.while": self._while,
            "stablehlo.case": self._choice,
            "stablehlo.if": self._choice,
            _BARRIER: self._barrier,
            _CONSTRAINT: self._constraint,
        }

    def read(self, lowered: Lowered) -> Reading:
        block = self.symbols.functions["main"].regions[0].blocks[0]
        arguments = list(block.arguments)
        check("inputs", len(lowered.inputs), len(arguments))
        inputs = [
            stacked(self.graph, leaf, self.cache.type(value.type))
            for leaf, value in zip(lowered.inputs, arguments, strict=True)
        ]
        results = self._block(block, dict(zip(arguments, (node for node, _ in inputs), strict=True)))
        check("outputs", len(lowered.outputs), len(results))
        outputs = [apart(self.graph, leaf, node) for leaf, node in zip(lowered.outputs, results, strict=True)]
        return Reading(
            outputs={name: node for part in outputs for name, node in part.items()},
            inputs={name: node for _, part in inputs for name, node in part.items()},
            constraints=self.constraints,
            barriers=self.barriers,
            operations=self.operations,
            loops=self.loops,
        )

    def _node(self, key: Key, operands: tuple[int, ...], place: object) -> int:
        return rewritten(self.graph, key, operands, place)

    def _block(self, block: Any, values: dict) -> list[int]:
        """The nodes that a block returns. `values`: MLIR value -> node, of its arguments and of what is around it."""
        for view in block.operations:
            operation = view.operation
            name = operation.name
            if name in _RETURNS:
                return [values[operand] for operand in operation.operands]
            self.operations += 1
            results = self.special.get(name, self._plain)(operation, values)
            values.update(zip(operation.results, results, strict=True))
        return []

    def _plain(self, operation: Any, values: dict) -> list[int]:
        attributes = self.cache.attributes(operation)
        if operation.name == "stablehlo.custom_call" and dict(attributes)["call_target_name"] == '"Sharding"':
            return self._constraint(operation, values)
        operands = tuple([values[operand] for operand in operation.operands])
        for region in operation.regions:
            operands += tuple(self._function(region.blocks[0], values))
        symbols, attributes = self._symbols(attributes)
        operands += symbols
        if opaque(operation.name, attributes):
            attributes = (*attributes, ("only", str(next(_STRANGERS))))
        keys = [
            Key(operation.name, attributes, self.cache.type(result.type), index)
            for index, result in enumerate(operation.results)
        ]
        return [self._node(key, operands, operation.location) for key in keys]

    def _function(self, block: Any, values: dict) -> list[int]:
        """What a region returns as a function of its arguments, which are told apart by depth and position."""
        self.depth += 1
        arguments = [
            self._node(
                Key(ARGUMENT, (("depth", self.depth), ("position", index)), self.cache.type(argument.type)), (), None
            )
            for index, argument in enumerate(block.arguments)
        ]
        values.update(zip(block.arguments, arguments, strict=True))
        results = self._block(block, values)
        self.depth -= 1
        return results

    def _symbols(self, attributes: tuple) -> tuple[tuple[int, ...], tuple]:
        """What functions that attributes refer to return, as nodes; and the attributes with no name in them."""
        nodes = [
            node
            for _, value in attributes
            for function in self.symbols.functions_in(value)
            for node in self._function(function.regions[0].blocks[0], {})
        ]
        return tuple(nodes), tuple((name, self.symbols.resolved(value)) for name, value in attributes)

    def _called(self, name: str, operands: Sequence[int]) -> list[int]:
        block = self.symbols.functions[name].regions[0].blocks[0]
        return self._block(block, dict(zip(block.arguments, operands, strict=True)))

    def _call(self, operation: Any, values: dict) -> list[int]:
        callee = ir.FlatSymbolRefAttr(operation.attributes["callee"]).value
        return self._called(callee, [values[operand] for operand in operation.operands])

    def _composite(self, operation: Any, values: dict) -> list[int]:
        callee = ir.FlatSymbolRefAttr(operation.attributes["decomposition"]).value
        return self._called(callee, [values[operand] for operand in operation.operands])

    def _while(self, operation: Any, values: dict) -> list[int]:
        written_out = self._written_out(operation, values) if self.unrolled else []
        if written_out:
            return written_out
        self.loops += 1
        self.depth += 1
        carried = [
            self.graph.phi(self.cache.type(operand.type), self.depth, values[operand], operation.location)
            for operand in operation.operands
        ]
        while_true, body = (region.blocks[0] for region in operation.regions)
        for block in (while_true, body):
            values.update(zip(block.arguments, carried, strict=True))
        (goes_on,) = self._block(while_true, values)
        following = self._block(body, values)
        for phi, node in zip(carried, following, strict=True):
            self.graph.close(phi, node)
        self.depth -= 1
        key = [Key(LOOP_END, (("depth", self.depth + 1),), self.graph.keys[phi].type) for phi in carried]
        return [self._node(each, (phi, goes_on), operation.location) for each, phi in zip(key, carried, strict=True)]

    def _written_out(self, operation: Any, values: dict) -> list[int]:
        """What a loop leaves behind, iteration after iteration; [] if it cannot be seen to end soon enough."""
        goes_on, body = (region.blocks[0] for region in operation.regions)
        carried = [values[operand] for operand in operation.operands]
        marks = len(self.constraints), len(self.barriers)
        for _ in range(self.unrolled + 1):
            values.update(zip(goes_on.arguments, carried, strict=True))
            truth = known(self.graph, self._block(goes_on, values)[0])
            if truth == 0:
                return carried
            if truth is None:
                break
            values.update(zip(body.arguments, carried, strict=True))
            carried = self._block(body, values)
        del self.constraints[marks[0] :], self.barriers[marks[1] :]
        return []

    def _choice(self, operation: Any, values: dict) -> list[int]:
        """Each result of a conditional: the index or predicate, then that result of every branch."""
        (chooser,) = (values[operand] for operand in operation.operands)
        branches = [self._block(region.blocks[0], values) for region in operation.regions]
        return [
            self._node(
                Key(operation.name, (), self.cache.type(result.type)),
                (chooser, *(branch[index] for branch in branches)),
                operation.location,
            )
            for index, result in enumerate(operation.results)
        ]

    def _barrier(self, operation: Any, values: dict) -> list[int]:
        nodes = [values[operand] for operand in operation.operands]
        for node, result in zip(nodes, operation.results, strict=True):
            if next(iter(result.uses), None) is not None:
                self.barriers.append(Mark(node=node, text="", place=operation.location))
        return nodes

    def _constraint(self, operation: Any, values: dict) -> list[int]:
        (node,) = (values[operand] for operand in operation.operands)
        if not ir.RankedTensorType(operation.results[0].type).rank:
            return [node]  # A scalar is whole on every device, whatever is said of it.
        if operation.name == _CONSTRAINT:
            text = str(self.symbols.resolved(str(operation.attributes["sharding"])))
        else:
            text = f"{self.cache.attributes(operation)} {self.symbols.meshes}"
        self.constraints.append(Mark(node=node, text=text, place=operation.location))
        return [node]
