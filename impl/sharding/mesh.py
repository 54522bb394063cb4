"""Meshes from a mapping of axis sizes: abstract ones for questions, real ones for runs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh

from impl.config import ConfigError
from impl.names import nearest
from impl.sharding.rules import Rules

__all__ = ["AXIS_TYPES", "abstract_mesh", "device_mesh", "sizes"]

AXIS_TYPES = {"auto": AxisType.Auto, "boundary": AxisType.Explicit, "explicit": AxisType.Explicit}
"""How JAX treats the axes: shardings that the compiler chooses, or shardings that are part of types."""

FILL = -1


def sizes(asked: Mapping[str, int], rules: Rules, devices: int) -> dict[str, int]:
    """Every mesh axis of `rules` in order -> its size: as asked, 1 elsewhere, and what is left for one that is -1.

    devices: how many there are; 0 for an abstract mesh, which has as many as its sizes say and can fill nothing.
    Raises ConfigError for an axis that does not exist, a size that makes no sense, and devices that do not divide.
    """
    for axis, size in asked.items():
        if axis not in rules.mesh_axes:
            known = ", ".join(rules.mesh_axes)
            raise ConfigError(
                nearest(f"no mesh axis is called {axis!r}: {rules.name} has {known}", axis, rules.mesh_axes)
            )
        if size < 1 and size != FILL:
            raise ConfigError(f"mesh axis {axis}={size}: a size is at least 1, or -1 for all devices that are left")
    found = {axis: asked.get(axis, 1) for axis in rules.mesh_axes}
    open_axes = [axis for axis, size in found.items() if size == FILL]
    taken = math.prod(size for size in found.values() if size != FILL)
    if len(open_axes) > 1 or (open_axes and (devices < 1 or devices % taken)):
        raise ConfigError(
            f"{' and '.join(f'{axis}=-1' for axis in open_axes)} cannot be filled from {devices} devices with {taken} "
            "taken by the other axes: give the size"
        )
    found |= dict.fromkeys(open_axes, devices // taken)
    total = math.prod(found.values())
    if devices and total > devices:
        raise ConfigError(f"a mesh of {total} devices, {dict(asked)}, on {devices}: make it smaller")
    return found


def abstract_mesh(asked: Mapping[str, int], rules: Rules) -> AbstractMesh:
    """A mesh without devices: shardings and shard shapes of any size can be asked on any machine."""
    found = sizes(asked, rules, 0)
    return AbstractMesh(tuple(found.values()), tuple(found), axis_types=(AxisType.Auto,) * len(found))


def device_mesh(asked: Mapping[str, int], rules: Rules, axis_types: str) -> Mesh:
    """A mesh of this process's first devices. axis_types: a key of AXIS_TYPES."""
    devices = jax.devices()
    found = sizes(asked, rules, len(devices))
    grid = np.array(devices[: math.prod(found.values())]).reshape(tuple(found.values()))
    return Mesh(grid, tuple(found), axis_types=(AXIS_TYPES[axis_types],) * len(found))
