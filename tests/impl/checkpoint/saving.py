"""Checkpoints in every form that Orbax writes, and attempts at converting them, for tests of what lies on disk."""

from __future__ import annotations

import jax
import orbax.checkpoint as ocp
import pytest

from impl.checkpoint import CheckpointError, Request, convert_as

FORMS = {
    "zarr2": {},
    "zarr2 plain": {"use_compression": False},
    "zarr3": {"use_zarr3": True},
    "zarr3 plain": {"use_zarr3": True, "use_compression": False},
    "files": {"use_ocdbt": False},
}


def saved(path, tree, form="zarr2", chunk_bytes=0):
    """Writes `tree` at `path`; arrays of jax are cut into chunks of at most `chunk_bytes`."""
    options = {"save_args": jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=chunk_bytes), tree)}
    arguments = ocp.args.PyTreeSave(tree, **(options if chunk_bytes else {}))
    ocp.Checkpointer(ocp.PyTreeCheckpointHandler(**FORMS[form])).save(path, args=arguments)
    return path


def restored(path):
    """What Orbax restores from `path` without a target."""
    return ocp.PyTreeCheckpointer().restore(path)


def attempt(source, target, **options):
    options = {"to": "auto", "layout": "keep", "scan_axis": 1} | options
    return convert_as(Request(source=source, target=target, **options), lambda moved, total: None)


def refusal(ask):
    """The one line that `ask` is refused with, "" when it is not. Any other error is one."""
    try:
        ask()
    except CheckpointError as problem:
        words = str(problem)
        return words if "\n" not in words and len(words) < 900 else pytest.fail(words)
    return ""
