"""Where each parameter lives on each side: neutral name <-> path, and position in a stack of layers.

The only place that knows how a layout spells a layer. Everything that leaves a side (gradients, optimizer slots,
updated weights, logical axes) goes through `gather`; everything that enters goes through `scatter`. Both are total.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from impl.config import ModelConfig
from impl.params import declare
from impl.stacks import places

__all__ = ["Address", "BridgeError", "addresses", "gather", "nearest", "scatter"]

Path = tuple[str, ...]


class BridgeError(ValueError):
    """Leaves and names that do not meet. The message lists every one, with its nearest candidates."""


@dataclass(frozen=True)
class Address:
    """path: keys from the root of the side's parameters. axis, index: place in a stacked leaf; axis -1 is unstacked."""

    path: Path
    axis: int = -1
    index: int = 0

    def __str__(self) -> str:
        return ".".join(self.path) + (f"[{self.index} @axis {self.axis}]" if self.axis >= 0 else "")


def addresses(config: ModelConfig, unscanned: str) -> dict[str, Address]:
    """Neutral name -> Address, in forward order.

    `unscanned` spells layer i of the stack "layers" in an unscanned model, one key or two: "layers_{i}" (Linen,
    MaxText's checkpoints), "layers/{i}" (a list of modules); other stacks are spelled alike. A scanned group of layers
    (`impl.stacks`) is stacked at param_scan_axis, or at the last axis of leaves that have fewer.
    """
    held = {tuple(place.name.split("/")): place for place in places(config)}
    table = {}
    for row in declare(config):
        parts = tuple(row.name.split("/"))
        place = held.get(parts[:3])
        if place is None:
            table[row.name] = Address(parts)
        elif place.group.form == "scanned":
            axis = min(config.param_scan_axis, len(row.shape))
            table[row.name] = Address((*place.path(unscanned), *parts[3:]), axis, place.index)
        else:
            table[row.name] = Address((*place.path(unscanned), *parts[3:]))
    return table


def gather(leaves: Mapping[Path, np.ndarray], table: Mapping[str, Address]) -> dict[str, np.ndarray]:
    """Side leaves -> neutral values in the table's order. Raises BridgeError unless each leaf and name is used once."""
    wanted = {address.path for address in table.values()}
    problems = [_unclaimed(path, wanted) for path in leaves if path not in wanted]
    problems += [_absent(name, address, leaves) for name, address in table.items() if address.path not in leaves]
    depth = _depths(table)
    for path in wanted & set(leaves):
        axis, count = depth[path]
        shape = np.shape(leaves[path])
        if axis >= 0 and (axis >= len(shape) or shape[axis] != count):
            problems.append(f"{'.'.join(path)} has shape {shape}: expected {count} layers at axis {axis}")
    if problems:
        raise BridgeError("\n".join(problems))
    return {name: _slice(leaves[address.path], address) for name, address in table.items()}


def scatter(values: Mapping[str, np.ndarray], table: Mapping[str, Address]) -> dict[Path, np.ndarray]:
    """Neutral values -> side leaves, stacking layers. Raises BridgeError unless every name and address is used once."""
    problems = [nearest(f"{name} has no address", name, table) for name in values if name not in table]
    problems += [nearest(f"{name} has no value", name, values) for name in table if name not in values]
    if problems:
        raise BridgeError("\n".join(problems))
    stacks: dict[Path, list[np.ndarray]] = {}
    for name, address in table.items():
        stacks.setdefault(address.path, []).append(values[name])
    depth = _depths(table)
    return {
        path: np.stack(parts, axis=depth[path][0]) if depth[path][0] >= 0 else parts[0]
        for path, parts in stacks.items()
    }


def _depths(table: Mapping[str, Address]) -> dict[Path, tuple[int, int]]:
    """path -> (stack axis, number of layers)."""
    depths: dict[Path, tuple[int, int]] = {}
    for address in table.values():
        depths[address.path] = (address.axis, depths.get(address.path, (0, 0))[1] + 1)
    return depths


def _slice(leaf: np.ndarray, address: Address) -> np.ndarray:
    return np.asarray(leaf) if address.axis < 0 else np.take(np.asarray(leaf), address.index, axis=address.axis)


def _unclaimed(path: Path, wanted: set[Path]) -> str:
    return nearest(f"leaf {'.'.join(path)} belongs to no parameter", path, wanted)


def _absent(name: str, address: Address, leaves: Mapping[Path, np.ndarray]) -> str:
    return nearest(f"{name} has no leaf at {address}", address.path, leaves)


def nearest(sentence: str, word: str | Path, known: Iterable[str | Path]) -> str:
    """`sentence` with the two entries of `known` that look most like `word`."""

    def text(entry: str | Path) -> str:
        return entry if isinstance(entry, str) else ".".join(entry)

    close = difflib.get_close_matches(text(word), [text(entry) for entry in known], n=2, cutoff=0.4)
    return f"{sentence}; nearest: {', '.join(close) if close else 'nothing similar'}"
