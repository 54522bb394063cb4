"""Pairs by name. The only module of the harness that knows `impl`, and it imports it only when asked to."""

from __future__ import annotations

import importlib
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

from harness.pair import NoShardings, Pair, Side, Stepper
from harness.placement import Placement

__all__ = ["RegistryError", "load_checkpoint_tools", "load_pair", "load_reference"]


class RegistryError(ValueError):
    """A pair that cannot be loaded. The message names the specification and the cure."""


def load_pair(spec: str) -> Pair:
    """The pair called `spec`: "impl", or "package.module:ATTRIBUTE" with the current folder importable.

    Raises RegistryError for anything that is not a Pair.
    """
    if spec == "impl":
        return _impl()
    module_name, _, attribute = spec.partition(":")
    if not attribute:
        raise RegistryError(f"--pair {spec!r}: write it as module:ATTRIBUTE, for example examples.mlp:PAIR")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as problem:  # a module may fail in any way while it is imported
        kind = "" if isinstance(problem, ImportError) else f"{type(problem).__name__}: "
        raise RegistryError(f"--pair {spec!r}: {module_name} cannot be imported: {kind}{problem}") from problem
    pair = getattr(module, attribute, None)
    if not isinstance(pair, Pair):
        raise RegistryError(f"--pair {spec!r}: {attribute} is a {type(pair).__name__}, not a harness.Pair")
    return pair


def load_checkpoint_tools() -> ModuleType:
    """impl's tools for checkpoints: convert, compare, inspect, their error and their renderers."""
    return importlib.import_module("impl.checkpoint")


def load_reference() -> ModuleType:
    """impl's comparison with the numbers of another code base, its error and its renderers."""
    return importlib.import_module("impl.reference")


def _impl() -> Pair:
    from impl import graph_programs, programs, sharding_programs

    sides = {
        name: Side(
            name=name,
            frameworks=programs.FRAMEWORKS[name],
            programs=_runnable(programs.programs(name)),
            stepper=_stepper(programs.stepper, name),
            graphs=partial(_graphs, graph_programs.graphs, name),
            shardings=partial(_shardings, sharding_programs.shardings, name),
        )
        for name in programs.SIDES
    }
    return Pair(
        name="impl",
        sides=sides,
        prepare=programs.prepare,
        table=programs.table,
        exact=programs.exact,
        precision=programs.precision,
        reordered=programs.reordered,
        models=graph_programs.models(),
    )


def _runnable(functions):
    """impl's programs take (settings, weights, inputs); the harness's take (case, run)."""

    def lift(function):
        return lambda case, run: function({**case.settings, **run.settings}, case.weights, case.inputs)

    return {name: lift(function) for name, function in functions.items()}


def _stepper(function, name):
    def make(case):
        once, compiled = function(name, case.settings, case.weights, case.inputs)
        return Stepper(once=once, compiled=compiled)

    return make


def _shardings(function, name, settings, mesh, rules):
    from impl.config import ConfigError

    try:
        found = function(name, settings, mesh, rules)
    except ConfigError as problem:
        raise NoShardings(str(problem)) from problem
    return {leaf: Placement(**each._asdict()) for leaf, each in found.items()}


def _graphs(graphs, name, settings):
    return {
        program: {part: partial(_lowered, make) for part, make in parts.items()}
        for program, parts in graphs(name, settings).items()
    }


def _lowered(make):
    """impl's functions take and return {name: array}; stacks of layers among them are named layer by layer."""
    from harness.recorder import Leaf, lower

    staged = make()

    def leaf(label):
        stack = staged.stacks.get(label)
        return Leaf(stack.names, stack.axis) if stack else label

    return lower(staged.function, (staged.arguments,), lambda path: leaf(path.partition("/")[2]), leaf)
