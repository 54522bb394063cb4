"""Whole trees in memory: read from Orbax checkpoints and written as such, through Orbax's public API.

Orbax and jax take seconds and 200 MB to import, so they are imported where they are needed; what needs no array, such
as `read_specs`, needs neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.leaf import Empty, KeyArray, Leaf, show
from impl.checkpoint.leaves.tree import Flat, flatten, nest
from impl.checkpoint.storage.location import Location, locate, staged
from impl.checkpoint.storage.source import open_source, specs_of

__all__ = ["Location", "load_tree", "locate", "read_arrays", "read_specs", "save_tree", "staged", "write_flat"]


def _guarded(items: FilePath, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Exception as error:  # Orbax, TensorStore and json each raise their own kinds
        reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{items}: Orbax cannot read it ({reason}): restore the files or another step") from error


def _metadata(location: Location) -> Any:
    import orbax.checkpoint as ocp

    # The handler is asked, not a Checkpointer: that one warns when the items folder has no step metadata of its own.
    found = _guarded(location.items, lambda: ocp.PyTreeCheckpointHandler().metadata(location.items))
    return getattr(found, "tree", found)


def read_specs(location: Location) -> Flat:
    """Shapes and dtypes of every leaf; no array is read, and Orbax is not asked."""
    return specs_of(open_source(location.items))


def read_arrays(location: Location) -> Flat:
    """Every leaf in host memory: NumPy arrays at their stored dtype, typed keys as KeyArray."""
    import jax
    import orbax.checkpoint as ocp

    here = jax.sharding.SingleDeviceSharding(jax.devices("cpu")[0])

    def how(found: Any) -> Any:
        if isinstance(found, ocp.metadata.StringMetadata | ocp.metadata.ScalarMetadata):
            return ocp.RestoreArgs()
        # Only a jax.Array can come back as a typed key, and only uint32 words can be one.
        return ocp.ArrayRestoreArgs(sharding=here) if found.dtype == np.uint32 else ocp.RestoreArgs(np.ndarray)

    metadata = _metadata(location)
    restore_args = jax.tree.map(how, metadata)
    # The handler and not a Checkpointer: a conversion reads its own output back while it still counts as unfinished.
    handler = ocp.PyTreeCheckpointHandler()
    arguments = ocp.args.PyTreeRestore(restore_args=restore_args)
    restored = _guarded(location.items, lambda: handler.restore(location.items, args=arguments))
    flat = flatten(restored)
    return Flat(leaves={path: _host(leaf) for path, leaf in flat.leaves.items()}, lists=flat.lists)


def _host(leaf: Any) -> Leaf:
    import jax

    if isinstance(leaf, jax.Array):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return KeyArray(np.asarray(jax.random.key_data(leaf)), str(jax.random.key_impl(leaf)))
        return np.asarray(leaf)
    return np.asarray(leaf) if isinstance(leaf, np.generic) else leaf


def _storable(leaf: Leaf) -> Any:
    import jax

    # Arrays go out as NumPy: then no sharding of this machine is noted, and a restore elsewhere has none to miss.
    if isinstance(leaf, KeyArray):
        return jax.random.wrap_key_data(jax.numpy.asarray(leaf.words), impl=leaf.impl)
    return leaf


def write_flat(folder: FilePath, relative: FilePath, flat: Flat, custom_metadata: Mapping[str, Any]) -> None:
    """Writes `flat` with Orbax so that its tree lies at `folder`/`relative`; "." means `folder` itself.

    Below a step directory the step's own metadata is written too, as a CheckpointManager would.
    """
    import jax
    import orbax.checkpoint as ocp

    tree = jax.tree.map(_storable, nest(flat), is_leaf=lambda node: isinstance(node, KeyArray))
    arguments = ocp.args.PyTreeSave(tree)
    place, custom = folder / relative, dict(custom_metadata)
    if relative == FilePath("."):
        ocp.Checkpointer(ocp.PyTreeCheckpointHandler()).save(place, args=arguments, custom_metadata=custom)
        return
    handler = ocp.CompositeCheckpointHandler(**{relative.name: ocp.PyTreeCheckpointHandler()})
    composite = ocp.args.Composite(**{relative.name: arguments})
    place.parent.parent.mkdir(parents=True, exist_ok=True)
    ocp.Checkpointer(handler).save(place.parent, args=composite, custom_metadata=custom)


def save_tree(path: FilePath, tree: Any) -> None:
    """Writes a nested tree of NumPy or JAX arrays as an Orbax checkpoint at `path`, which must not exist."""
    flat = flatten(tree)
    leaves = {name: _host(leaf) for name, leaf in flat.leaves.items()}
    for name, leaf in leaves.items():
        if not isinstance(leaf, np.ndarray | KeyArray | Empty | str | int | float | None):
            raise CheckpointError(f"{show(name)}: a {type(leaf).__name__}, expected an array: convert it first")
    with staged(path) as stage:
        write_flat(stage, FilePath("."), Flat(leaves=leaves, lists=flat.lists), {})


def load_tree(path: FilePath) -> Any:
    """The checkpoint at `path` as nested dicts (lists where it has lists) of NumPy arrays; typed keys as KeyArray."""
    return nest(read_arrays(locate(path)))
