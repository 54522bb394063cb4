"""Weights and inputs as one .npz file without pickle, the same bytes for the same values."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import numpy as np

from harness.observation import Values
from harness.reproduce.plan import ReproductionError

__all__ = ["packed"]

Dtypes = dict[str, tuple[str, tuple[int, ...]]]

_EPOCH = (2020, 1, 1, 0, 0, 0)


def packed(kinds: Mapping[str, Values]) -> tuple[bytes, Dtypes]:
    """Kind -> name -> array as the bytes of an .npz with the keys "kind/name", in that order.

    Also: key -> (dtype name, shape) of the arrays whose dtype NumPy does not know by itself (bfloat16, float8_*,
    int4...); they are stored as flat uint8. Raises ReproductionError for objects, which only pickle could store.
    """
    dtypes: Dtypes = {}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for kind, values in kinds.items():
            for name, value in values.items():
                key, array = f"{kind}/{name}", np.asarray(value, order="C")
                if array.dtype.hasobject:
                    raise ReproductionError(f"{key} is an array of objects: make it an array of numbers or text")
                if array.dtype.isbuiltin == 2:  # registered with NumPy by ml_dtypes
                    dtypes[key] = array.dtype.name, array.shape
                    array = array.reshape(-1).view(np.uint8)
                entry = io.BytesIO()
                np.lib.format.write_array(entry, array, allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{key}.npy", _EPOCH), entry.getvalue())
    return content.getvalue(), dtypes
