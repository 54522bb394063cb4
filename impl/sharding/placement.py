"""What one leaf becomes on a mesh: logical names, partition spec, shard, bytes per device, memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from jax.sharding import NamedSharding

from impl.config import ConfigError

__all__ = ["Placement", "axes_of", "placements"]


class Placement(NamedTuple):
    """logical, spec: one entry for each axis of `shape`; a spec's is the mesh axes that shard it, outermost first.

    shard: shape of what one device holds. size: bytes of it. memory: kind of memory, "device" unless offloaded.
    """

    logical: tuple[str, ...]
    spec: tuple[tuple[str, ...], ...]
    shape: tuple[int, ...]
    shard: tuple[int, ...]
    size: int
    memory: str

    def without(self, sizes: Mapping[str, int]) -> Placement:
        """The same without mesh axes of size 1, which shard nothing."""
        return self._replace(spec=tuple(tuple(axis for axis in axes if sizes[axis] > 1) for axes in self.spec))

    @property
    def text(self) -> str:
        """All of it in a line: "(embed, mlp) by (fsdp+expert, tensor): [5,22] of [20,44], 440 bytes"."""
        by = ", ".join("+".join(axes) or "-" for axes in self.spec)
        shard, shape = (f"[{','.join(map(str, sizes))}]" for sizes in (self.shard, self.shape))
        names = ", ".join(self.logical)
        return f"({names}) by ({by}): {shard} of {shape}, {self.size} bytes, {self.memory} memory"


def placements(
    leaves: Mapping[str, Any], names: Mapping[str, tuple[Any, ...]], shardings: Mapping[str, NamedSharding]
) -> dict[str, Placement]:
    """Name -> Placement for leaves of shapes and dtypes, their logical names and their shardings, by name.

    Raises ConfigError, listing every leaf, where a dimension does not divide into its shards: nothing could hold it.
    """
    problems: list[str] = []
    found = {}
    for name, leaf in leaves.items():
        sharding, shape = shardings[name], tuple(leaf.shape)
        spec = axes_of(sharding, len(shape))
        counts = [math.prod(sharding.mesh.shape[axis] for axis in axes) for axes in spec]
        for place, (size, count) in enumerate(zip(shape, counts, strict=True)):
            if size % count:
                problems.append(f"{name}{list(shape)}: {size} at axis {place} over {'+'.join(spec[place])} ({count})")
        shard = tuple(size // count for size, count in zip(shape, counts, strict=True))
        found[name] = Placement(
            logical=_padded(names[name], len(shape)),
            spec=spec,
            shape=shape,
            shard=shard,
            size=math.prod(shard) * leaf.dtype.itemsize,
            memory=sharding.memory_kind or "device",
        )
    if problems:
        raise ConfigError(f"these do not divide: {'; '.join(problems)}. Choose another mesh or other sizes")
    return found


def axes_of(sharding: NamedSharding, rank: int) -> tuple[tuple[str, ...], ...]:
    """The spec as one tuple of mesh axes for each of `rank` dimensions. Raises ConfigError for one that is longer."""
    entries = tuple(sharding.spec)
    if len(entries) > rank:
        raise ConfigError(f"spec {sharding.spec} has {len(entries)} entries for {rank} dimensions: names were lost")
    full = (*entries, *[None] * (rank - len(entries)))
    return tuple(() if entry is None else (entry,) if isinstance(entry, str) else tuple(entry) for entry in full)


def _padded(names: tuple[Any, ...], rank: int) -> tuple[str, ...]:
    """Names as text, "-" for an axis without one. A list of another length stays as it is: the comparison shows it."""
    return tuple("-" if name is None else str(name) for name in names or (None,) * rank)
