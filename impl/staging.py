"""Programs of a side as pure functions from named arrays to named arrays, to be lowered and never run.

A name is a parameter's neutral name, or a pattern of it where a side stores layers stacked; `Staged.stacks` says which
layers a pattern holds and on which axis. Both sides name their leaves alike, whatever their trees look like.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from impl.config import ModelConfig
from impl.names import Address
from impl.training.objective import Batch
from impl.trees import flat

__all__ = ["Labels", "Stack", "Staged", "abstract_batch", "batch_of", "named", "prefixed"]

Path = tuple[str, ...]


class Stack(NamedTuple):
    """names: of each layer in turn; axis: where they are stacked; one name and axis -1 for what is no stack."""

    names: tuple[str, ...]
    axis: int


class Staged(NamedTuple):
    """function: {name: array} -> {name: array}; arguments: the arrays' shapes and dtypes; stacks: names of stacks."""

    function: Callable[[dict[str, Any]], dict[str, Any]]
    arguments: dict[str, Any]
    stacks: Mapping[str, Stack]


class Labels:
    """Names of a side's leaves by path, from the side's table of addresses. `stacks` grows as leaves are named."""

    def __init__(self, table: Mapping[str, Address]):
        grouped: dict[Path, list[str]] = {}
        for name, address in table.items():
            grouped.setdefault(address.path, []).append(name)
        axes = {address.path: address.axis for address in table.values()}
        self._known = {path: Stack(tuple(names), axes[path]) for path, names in grouped.items()}
        self.stacks: dict[str, Stack] = {}

    def parameter(self, path: Path, prefix: str = "") -> str:
        """The name of the parameter at `path`, after `prefix`."""
        stack = self._known[path]
        if stack.axis < 0:
            return prefix + stack.names[0]
        label = prefix + _pattern(stack.names)
        self.stacks[label] = Stack(tuple(prefix + name for name in stack.names), stack.axis)
        return label

    def knows(self, path: Path) -> bool:
        """Whether a parameter is stored at `path`."""
        return path in self._known

    def slot(self, path: Path) -> str:
        """The name of an optimizer leaf: "<slot>/<parameter>" where it mirrors a parameter, else its path."""
        cut = next((at for at in range(len(path)) if path[at:] in self._known), -1)
        if cut < 0:
            return "/".join(path)
        above = path[:cut][:-1] if path[:cut][-1:] == ("params",) else path[:cut]
        return self.parameter(path[cut:], "/".join(above) + "/")


def abstract_batch(config: ModelConfig, rows: int) -> dict[str, Any]:
    """The fields of a batch [rows, max_target_length] by name, with nothing allocated."""
    field = jax.ShapeDtypeStruct((rows, config.max_target_length), "int32")
    return {f"batch/{name}": field for name in Batch._fields}


def batch_of(values: Mapping[str, Any]) -> Batch:
    """The batch among named arrays."""
    return Batch(*[values[f"batch/{name}"] for name in Batch._fields])


def prefixed(stacks: Mapping[str, Stack], prefix: str) -> dict[str, Stack]:
    """The same stacks under names that begin with `prefix`."""
    return {
        prefix + label: Stack(tuple(prefix + name for name in stack.names), stack.axis)
        for label, stack in stacks.items()
    }


def named(tree: Any, name: Callable[[Path], str]) -> dict[str, Any]:
    """The leaves of `tree` by name."""
    return {name(path): leaf for path, leaf in flat(tree).items()}


def _pattern(names: tuple[str, ...]) -> str:
    parts = [name.split("/") for name in names]
    columns = zip(*parts, strict=True)
    whole = tuple(map(str, range(len(names))))
    return "/".join(each[0] if len(set(each)) == 1 else "*" if each == whole else ",".join(each) for each in columns)
