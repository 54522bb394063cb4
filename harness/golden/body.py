"""The exact body of a golden: an uncompressed .npz whose bytes depend on the arrays alone, never on the clock."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import numpy as np

__all__ = ["pack", "unpack"]

EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The arrays as .npz bytes, in the order given. The same arrays always give the same bytes.

    Raises ValueError for an array that only pickle could hold.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            # Every field that zipfile would take from the clock or the platform is set here.
            member = zipfile.ZipInfo(f"{name}.npy", date_time=EPOCH)
            member.create_system, member.external_attr = 3, 0o644 << 16
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asarray(array, order="C"), version=(1, 0), allow_pickle=False)
            archive.writestr(member, content.getvalue())
    return buffer.getvalue()


def unpack(content: bytes) -> dict[str, np.ndarray]:
    """The arrays that `pack` made `content` from. Raises ValueError or zipfile.BadZipFile for anything else."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
