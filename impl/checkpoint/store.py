"""Reading and writing Orbax checkpoints on a local disk, through Orbax's public API.

A checkpoint is found from any of: a step directory, its `items` folder, a folder written without steps, a manager's
root. It is written to a folder beside the target whose name carries Orbax's mark of an unfinished checkpoint, which
every restore refuses, and renamed when it is complete. Orbax and jax take seconds and 200 MB to import, so they are
imported where they are needed.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaf import Empty, KeyArray, Leaf, LeafSpec, show
from impl.checkpoint.tree import Flat, flatten, nest

__all__ = ["Location", "load_tree", "locate", "read_arrays", "read_specs", "save_tree", "staged", "write_flat"]

UNFINISHED = ".orbax-checkpoint-tmp"
ITEM_NAMES = ("items", "state", "default")


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where a checkpoint's tree lies: `items` is the folder Orbax reads, `relative` its path below the `source` given.

    custom_metadata: what the writer noted beside the tree, e.g. {"scan_layers": True}.
    """

    source: FilePath
    items: FilePath
    relative: FilePath
    custom_metadata: Mapping[str, Any]


def locate(source: FilePath) -> Location:
    """Finds the one checkpoint at `source`.

    Raises CheckpointError when there is none, when it is unfinished, and when there are several steps to choose from.
    """
    source = FilePath(source).absolute()
    if not source.is_dir():
        found = "a file" if source.exists() else "nothing"
        raise CheckpointError(f"{source}: expected a checkpoint folder, found {found}: give the step or items folder")
    if UNFINISHED in source.name:
        raise CheckpointError(f"{source}: an unfinished checkpoint (its name holds {UNFINISHED}): give a finished one")
    items = _items_in(source)
    if items is None:
        steps = {int(child.name): _items_in(child) for child in source.iterdir() if child.name.isdecimal()}
        whole = {step: folder for step, folder in sorted(steps.items()) if folder is not None}
        if len(whole) > 1:
            raise CheckpointError(f"{source} holds the steps {list(whole)}, expected one: give {source}/<step>")
        if not whole:
            names = sorted(child.name for child in source.iterdir())[:8]
            raise CheckpointError(
                f"{source}: no Orbax checkpoint (no _METADATA here or below; found {names}): "
                "give a step directory, its items folder, or a manager's root"
            )
        items = next(iter(whole.values()))
    return Location(source=source, items=items, relative=items.relative_to(source), custom_metadata=_custom(items))


def _items_in(folder: FilePath) -> FilePath | None:
    places = (folder, *(folder / name for name in ITEM_NAMES))
    return next((place for place in places if (place / "_METADATA").is_file()), None)


def _custom(items: FilePath) -> dict[str, Any]:
    import orbax.checkpoint as ocp

    if (items / "_CHECKPOINT_METADATA").is_file():
        return dict(_guarded(items, lambda: ocp.PyTreeCheckpointer().metadata(items).custom_metadata) or {})
    if items.name in ITEM_NAMES and (items.parent / "_CHECKPOINT_METADATA").is_file():
        handler = ocp.CompositeCheckpointHandler(**{items.name: ocp.PyTreeCheckpointHandler()})
        return dict(_guarded(items, lambda: ocp.Checkpointer(handler).metadata(items.parent).custom_metadata) or {})
    return {}


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
    """Shapes and dtypes of every leaf; no array is read."""
    impls = _key_impls(location.items)
    flat = flatten(_metadata(location))
    specs = {path: _spec(leaf, impls.get(".".join(path), "")) for path, leaf in flat.leaves.items()}
    return Flat(leaves=specs, lists=flat.lists)


def _spec(found: Any, impl: str) -> Leaf:
    import orbax.checkpoint as ocp

    if isinstance(found, ocp.metadata.StringMetadata):
        return LeafSpec((), "str")
    if isinstance(found, ocp.metadata.ArrayMetadata):
        return LeafSpec(tuple(found.shape), str(np.dtype(found.dtype)), impl)
    return found


def _key_impls(items: FilePath) -> dict[str, str]:
    """Generator names of typed keys by dotted leaf name. Orbax shows them in no call that leaves the arrays unread."""
    impls: dict[str, str] = {}
    for file in sorted((items / "array_metadatas").glob("process_*")):
        with contextlib.suppress(ValueError, KeyError, TypeError, OSError):
            for row in json.loads(file.read_text())["array_metadatas"]:
                entry = row["array_metadata"]
                impl = (entry.get("ext_metadata") or {}).get("random_key_impl")
                if impl:
                    impls[entry["param_name"]] = impl
    return impls


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


@contextlib.contextmanager
def staged(target: FilePath) -> Iterator[FilePath]:
    """A folder to write into, renamed to `target` when the block ends well and removed when it does not.

    Raises CheckpointError when `target` exists or cannot be made.
    """
    target = FilePath(target).absolute()
    if os.path.lexists(target):
        raise CheckpointError(f"{target}: the target exists, expected nothing: give another name or move it away")
    stage = target.with_name(f"{target.name}{UNFINISHED}-{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield stage
        os.replace(stage, target)
    except OSError as error:
        raise CheckpointError(f"{target}: cannot be written ({error}): give a folder that can be") from error
    finally:
        for left in target.parent.glob(glob.escape(stage.name) + "*"):  # Orbax's own unfinished folder included
            shutil.rmtree(left, ignore_errors=True)


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
