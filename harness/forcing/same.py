"""Modules that hold the same weights are the same, whatever each side calls them: told by the pair's table of names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.forcing.watching import normal

__all__ = ["same_modules"]

Path = tuple[str, ...]


def same_modules(table: Mapping[str, Mapping[str, str]], sides: tuple[str, str]) -> dict[Path, Path]:
    """Path of a module on the second side -> on the first, where they differ; of callers, too, up to where the paths
    end otherwise.

    table: neutral name -> side -> address, "params/blocks/0/attend/query/kernel [axis 0, layer 1]". A module whose
    weights lie in several of the other side's modules is left out.
    """
    found: dict[Path, set[Path]] = {}
    for addresses in table.values():
        if all(side in addresses for side in sides):
            left, right = (_module(addresses[side]) for side in sides)
            for ours, theirs in _upwards(left, right):
                found.setdefault(theirs, set()).add(ours)
    return {theirs: next(iter(ours)) for theirs, ours in found.items() if len(ours) == 1 and theirs not in ours}


def _module(address: str) -> Path:
    """The path of the module that holds a leaf, without collection, leaf and place in a stack."""
    return normal(tuple(address.partition(" [")[0].split("/")[1:-1]))


def _upwards(left: Path, right: Path) -> Iterator[tuple[Path, Path]]:
    """Both paths, and those of their callers as long as these are called alike."""
    yield left, right
    while len(left) > 1 and len(right) > 1 and left[-1] == right[-1]:
        left, right = left[:-1], right[:-1]
        yield left, right
