"""Where a leaf lives on a mesh of devices, and in what two sides differ about it. No framework is needed to compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Placed", "Placement", "normalised", "placed", "where_different"]

Spec = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """One leaf on a mesh.

    logical: names of its axes, "-" where an axis has none. spec: for each axis the mesh axes that shard it, outermost
    first. shard: the shape of what one device holds; size: bytes of it. memory: the kind of memory that holds it.
    """

    logical: tuple[str, ...]
    spec: Spec
    shape: tuple[int, ...]
    shard: tuple[int, ...]
    size: int
    memory: str = "device"


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Leaves that are placed alike, as two sides have them; None on a side that has no such leaf.

    name: neutral; "*" stands for a number in which `count` leaves differ and in nothing else.
    different: what the sides do not agree about; empty if they agree.
    """

    name: str
    count: int
    left: Placement | None
    right: Placement | None
    different: tuple[str, ...]


def normalised(spec: Spec, mesh: Mapping[str, int]) -> Spec:
    """`spec` without mesh axes of size 1, which shard nothing. Entries stay ordered."""
    return tuple(tuple(axis for axis in axes if mesh[axis] > 1) for axes in spec)


def where_different(left: Placement | None, right: Placement | None, mesh: Mapping[str, int]) -> tuple[str, ...]:
    """Names of what two sides do not agree about; specs count without mesh axes of size 1 (absent from `mesh`: 1)."""
    if left is None or right is None:
        return ("absent",)
    full = {axis: 1 for each in (left, right) for axes in each.spec for axis in axes} | dict(mesh)
    pairs = {
        "logical": (left.logical, right.logical),
        "spec": (normalised(left.spec, full), normalised(right.spec, full)),
        "shape": (left.shape, right.shape),
        "shard": (left.shard, right.shard),
        "bytes": (left.size, right.size),
        "memory": (left.memory, right.memory),
    }
    return tuple(name for name, (ours, theirs) in pairs.items() if ours != theirs)


def placed(
    left: Mapping[str, Placement], right: Mapping[str, Placement], mesh: Mapping[str, int]
) -> tuple[Placed, ...]:
    """Both sides' leaves side by side, in the left order, then what the right has besides.

    Leaves whose names differ in numbers only, and which are placed alike on each side, are one row.
    """
    groups: dict[tuple[object, ...], list[str]] = {}
    for name in (*left, *(name for name in right if name not in left)):
        groups.setdefault((_pattern(name), left.get(name), right.get(name)), []).append(name)
    return tuple(
        Placed(
            name=names[0] if len(names) == 1 else _pattern(names[0]),
            count=len(names),
            left=left.get(names[0]),
            right=right.get(names[0]),
            different=where_different(left.get(names[0]), right.get(names[0]), mesh),
        )
        for names in groups.values()
    )


def _pattern(name: str) -> str:
    """The name with every number but its first part's written as "*"; a slot's own number is kept."""
    first, *rest = name.split("/")
    return "/".join([first, *("*" if part.isdigit() else part for part in rest)])
