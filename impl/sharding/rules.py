"""Logical rules: which mesh axes shard a logical axis. Ordered; the first rule that fits counts. MaxText's YAML format.

Linen reads such a list itself. NNX keeps one assignment for each name and sees no conflict, so the order is resolved
for it here, by the same words, written from the description of Flax's algorithm and not from its code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from impl.config import ConfigError
from impl.maxtext.files import read_mapping
from impl.names import nearest

__all__ = ["Rules", "assigned", "read_rules"]

Axes = tuple[str, ...]

NEEDED = ("mesh_axes", "logical_axis_rules")
BATCH = ("activation_embed_and_logits_batch", "activation_norm_length")
"""Logical names of a batch [B, T] where a file of rules says nothing else."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """mesh_axes: in the mesh's order. logical: (logical name, mesh axes) in order of precedence, () for replicated.

    batch: logical names of the axes of a batch. name: for messages, a file or the word "default".
    """

    name: str
    mesh_axes: Axes
    logical: tuple[tuple[str, Axes], ...]
    batch: Axes = BATCH

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise ConfigError(f"{self.name}: {problem}")


def assigned(names: Sequence[str | None], logical: Sequence[tuple[str, Axes]]) -> dict[str, Axes]:
    """Logical name -> mesh axes for one array whose axes are called `names`, by the rules `logical`.

    Rules are tried in order. One applies if its name is among `names`, has nothing assigned yet, and no mesh axis of
    the rule is in use by another name. A name that no rule fits is replicated: ().
    """
    found: dict[str, Axes] = {}
    used: set[str] = set()
    for name, axes in logical:
        if name in names and name not in found and used.isdisjoint(axes):
            found[name] = axes
            used.update(axes)
    return {name: found.get(name, ()) for name in names if name is not None}


def read_rules(path: Path) -> Rules:
    """The rules of a file in MaxText's format: mesh_axes, and logical_axis_rules as [name, axis or list of axes].

    Raises ConfigError, one sentence, for a file that cannot be read, has another form, or names unknown mesh axes.
    """
    path = Path(path)
    content = read_mapping(path, f"a file of logical rules, with {' and '.join(NEEDED)}")
    if missing := [key for key in NEEDED if key not in content]:
        near = nearest(f"has no {missing[0]}", missing[0], [str(key) for key in content])
        raise ConfigError(f"{path}: {near}; a file of rules needs {' and '.join(NEEDED)}")
    return Rules(
        name=str(path),
        mesh_axes=_axes(path, "mesh_axes", content["mesh_axes"]),
        logical=_logical(path, content["logical_axis_rules"]),
        batch=_batch(path, content),
    )


def _batch(path: Path, content: Mapping[str, Any]) -> Axes:
    key = "input_data_sharding_logical_axes"
    return _axes(path, key, content[key]) if key in content else BATCH


def _logical(path: Path, rows: Any) -> tuple[tuple[str, Axes], ...]:
    if not isinstance(rows, list) or not rows:
        raise ConfigError(f"{path}: logical_axis_rules is {rows!r}: it must be a list of [name, axes]")
    found = []
    for index, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != 2 or not isinstance(row[0], str):
            raise ConfigError(f"{path}: rule {index} is {row!r}: write it as [name, axis] or [name, [axis, ...]]")
        found.append((row[0], _axes(path, f"rule {index} ({row[0]})", row[1])))
    return tuple(found)


def _axes(path: Path, what: str, value: Any) -> Axes:
    """A list of names, or one name, as a tuple."""
    axes = [value] if isinstance(value, str) else value
    if not isinstance(axes, list) or not all(isinstance(axis, str) for axis in axes):
        raise ConfigError(f"{path}: {what} is {value!r}: it must be a name or a list of names")
    return tuple(axes)


def _problems(rules: Rules) -> list[str]:
    """Every reason for which these rules cannot be used."""
    problems = []
    if not rules.mesh_axes or len(set(rules.mesh_axes)) < len(rules.mesh_axes):
        problems.append(f"mesh_axes {rules.mesh_axes} must be at least one name, each of them once")
    for index, (name, axes) in enumerate(rules.logical):
        for axis in axes:
            if axis not in rules.mesh_axes:
                problems.append(nearest(f"rule {index} ({name}): no mesh axis {axis!r}", axis, rules.mesh_axes))
        if len(set(axes)) < len(axes):
            problems.append(f"rule {index} ({name}) uses a mesh axis twice: {list(axes)}")
    return problems
