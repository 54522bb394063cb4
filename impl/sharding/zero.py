"""ZeRO-1: optimizer slots split over the data axis as well, along which their weights are whole copies."""

from __future__ import annotations

import math

from jax.sharding import NamedSharding, PartitionSpec

from impl.sharding.placement import axes_of

__all__ = ["DATA", "over_data"]

DATA = "data"
TENSOR = "tensor"


def over_data(sharding: NamedSharding, shape: tuple[int, ...]) -> NamedSharding:
    """`sharding` of a slot of `shape` with the axis "data" in it: outermost on the first dimension that it divides.

    A dimension that "tensor" shards is passed over: what is multiplied along it stays together. A slot that uses
    "data" already, or that has no such dimension, stays as it is.
    """
    spec, sizes = axes_of(sharding, len(shape)), sharding.mesh.shape
    if any(DATA in axes for axes in spec):
        return sharding
    for place, (size, axes) in enumerate(zip(shape, spec, strict=True)):
        shard = size // math.prod(sizes[axis] for axis in axes)
        if TENSOR not in axes and shard % sizes[DATA] == 0:
            changed = (*spec[:place], (DATA, *axes), *spec[place + 1 :])
            return NamedSharding(sharding.mesh, PartitionSpec(*changed), memory_kind=sharding.memory_kind)
    return sharding
