"""One array in a golden: the line of the header that a reviewer reads, and the exact values that the body keeps."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes  # noqa: F401  (np.dtype("bfloat16") is known once this is imported)
import numpy as np

from harness.distance import UNSIGNED, family

__all__ = [
    "SAMPLE",
    "SAMPLE_ABOVE",
    "Entry",
    "digest_of",
    "entry_json",
    "entry_of",
    "from_stored",
    "parse_entry",
    "places",
    "sample",
    "stored",
]

SAMPLE_ABOVE = 4096
"""Arrays of more elements than this keep a sample in the body; the digest in the header is always of the whole."""

SAMPLE = 1024
"""Elements of a sample."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What the header says of one array.

    dtype: NumPy's name ("bfloat16"), or "text". sha256: first 16 hexadecimal digits over dtype, shape and bytes of the
    whole array. low, high, mean: over the finite elements, None where they have no meaning (text, complex, no element);
    `mean` has 9 digits. first: the first three elements. nonfinite: how many elements are NaN or infinite.
    sampled: 0 if the body holds the whole array, else the number of elements that it holds; `places` says which.
    """

    shape: tuple[int, ...]
    dtype: str
    sha256: str
    low: Any = None
    high: Any = None
    mean: float | None = None
    first: tuple[Any, ...] = ()
    nonfinite: int = 0
    sampled: int = 0


@np.errstate(all="ignore")  # ml_dtypes warns when it looks at some NaNs
def entry_of(value: np.ndarray) -> Entry:
    """The entry of an array. Raises TypeError for a dtype that cannot be compared (object, datetime, record)."""
    array = np.asarray(value)
    kind, flat = family(array.dtype), array.reshape(-1)
    finite = flat[np.isfinite(flat)] if kind == "float" else flat
    ranked = kind in ("float", "int", "bool") and finite.size > 0
    mean = float(f"{finite.astype(np.float64).mean():.9g}") if ranked else None
    return Entry(
        shape=array.shape,
        dtype="text" if kind == "text" else str(array.dtype),
        sha256=digest_of(array),
        low=_plain(finite.min(), kind) if ranked else None,
        high=_plain(finite.max(), kind) if ranked else None,
        mean=mean,
        first=tuple(_plain(item, kind) for item in flat[:3]),
        nonfinite=int(flat.size - finite.size),
        sampled=SAMPLE if flat.size > SAMPLE_ABOVE else 0,
    )


def digest_of(value: np.ndarray) -> str:
    """16 hexadecimal digits over dtype, shape and bytes. Text counts as text: NumPy's width of it means nothing."""
    array = np.asarray(value)
    text = family(array.dtype) == "text"
    found = hashlib.sha256(f"{'text' if text else array.dtype}{list(array.shape)}".encode())
    found.update(stored(array).data if text else np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return found.hexdigest()[:16]


def places(size: int, count: int) -> np.ndarray:
    """Flat indices of a sample of `count` out of `size` elements, ascending: one in each of `count` equal cells.

    The place within the cell moves on by 648055/2**20, near the golden section, from cell to cell: a plain stride
    would see a single column of many matrices. Sizes up to 2**33.
    """
    cells = np.arange(count, dtype=np.int64)
    return (((cells << 20) + cells * 648055 % (1 << 20)) * size) // (count << 20)


def sample(array: np.ndarray, sampled: int) -> np.ndarray:
    """The elements of `array` that a body keeps: a flat sample of `sampled` elements, or the array itself for 0."""
    whole = np.asarray(array)
    return whole.reshape(-1)[places(whole.size, sampled)] if sampled else whole


def stored(array: np.ndarray) -> np.ndarray:
    """The array as .npy can hold it without pickling: text as UTF-8 JSON, the dtypes of ml_dtypes as unsigned bits."""
    if family(array.dtype) == "text":
        return np.frombuffer(json.dumps(array.astype("U").reshape(-1).tolist()).encode(), np.uint8)
    if array.dtype.isbuiltin == 1:
        return array
    return np.ascontiguousarray(array).view(UNSIGNED[array.dtype.itemsize])


def from_stored(kept: np.ndarray, entry: Entry) -> np.ndarray:
    """The values that `stored` made `kept` from: the whole array, or a flat sample."""
    shape = (-1,) if entry.sampled else entry.shape
    if entry.dtype == "text":
        return np.array(json.loads(kept.tobytes()), dtype=np.str_).reshape(shape)
    return kept.view(np.dtype(entry.dtype)).reshape(shape)


def entry_json(entry: Entry) -> dict[str, Any]:
    """The entry as the object that the header shows on one line; what is not there is left out."""
    line: dict[str, Any] = {"shape": list(entry.shape), "dtype": entry.dtype, "sha256": entry.sha256}
    if entry.low is not None:
        line |= {"min": entry.low, "max": entry.high, "mean": _finite_json(entry.mean)}
    line["first"] = list(entry.first)
    if entry.nonfinite:
        line["nonfinite"] = entry.nonfinite
    if entry.sampled:
        line["sample"] = entry.sampled
    return line


def parse_entry(line: Mapping[str, Any]) -> Entry:
    """The entry that `entry_json` made `line` from."""
    mean = line.get("mean")
    return Entry(
        shape=tuple(line["shape"]),
        dtype=line["dtype"],
        sha256=line["sha256"],
        low=line.get("min"),
        high=line.get("max"),
        mean=None if mean is None else float(mean),
        first=tuple(line["first"]),
        nonfinite=line.get("nonfinite", 0),
        sampled=line.get("sample", 0),
    )


def _plain(item: Any, kind: str) -> Any:
    """One element as JSON: the shortest number that gives it back; non-finite and complex ones are strings."""
    if kind in ("int", "bool"):
        return int(item) if kind == "int" else bool(item)
    if kind == "float":
        return _finite_json(float(str(item)))
    text = str(item)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _finite_json(number: float | None) -> float | str | None:
    return str(number) if number is not None and not math.isfinite(number) else number
