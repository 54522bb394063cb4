"""checksum: writing the manifest of a checkpoint beside its arrays."""

from __future__ import annotations

import os
from pathlib import Path as FilePath

from impl.checkpoint.checksums.manifest import FILE, Manifest, write_manifest
from impl.checkpoint.checksums.sealing import NOTHING, sealed
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.progress import Watch
from impl.checkpoint.storage.location import locate

__all__ = ["checksum"]


def checksum(source: FilePath, watch: Watch) -> tuple[FilePath, Manifest]:
    """Reads the checkpoint at `source` and writes its manifest beside its arrays. The manifest and its path.

    Raises CheckpointError where there is one already, before anything is read, and for what cannot be read or written.
    """
    items = locate(source).items
    if os.path.lexists(items / FILE):
        raise CheckpointError(
            f"{items / FILE}: there is a manifest already, and a new one would hide what has changed since: "
            "compare with it (--check), or remove it first"
        )
    manifest = sealed(source, NOTHING, watch)
    return write_manifest(items, manifest), manifest
