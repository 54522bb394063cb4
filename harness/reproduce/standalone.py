"""The part of every reproduction that is the same: what stands below the marker is copied into the file as it is.

It needs NumPy, JAX, Flax and the standard library, and nothing of the harness but the records that the file carries.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import tempfile
import traceback
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "compare",
    "differ",
    "load",
    "main",
    "measure",
    "observe",
    "read",
    "report",
    "said",
    "strays",
    "tell",
    "the_case",
    "unpack",
    "versions",
]

CASE = DESCRIBED = MODULE = TAPS = ""
LIBRARIES: tuple[str, ...] = ()
ORIGINAL: dict[str, str] = {}
VARIABLES: dict[str, str] = {}
DTYPES: dict[str, tuple[str, tuple[int, ...]]] = {}
ALLOWED: tuple[tuple[str, float, float, str], ...] = ()
SOURCES: dict[str, str | bytes] = {}


def the_case(weights: Any, inputs: Any) -> tuple[Any, Any]:
    """The pair and the case. Every file has its own."""
    raise NotImplementedError("the file has its own")


# ---- below: copied

CHANNELS = (
    *("structure", "claims", "intermediates", "outputs", "loss", "gradients", "updates", "state", "shardings"),
    *("graph", "resources", "disk"),
)
"""What is compared, in the order in which the first divergence is looked for."""


def main():
    """Exit code 1 if the two runs differ, 0 if they agree, 2 if they could not be made."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    with tempfile.TemporaryDirectory(prefix="reproduce-") as folder:
        try:
            unpack(Path(folder))
            return report(*the_case(*load(Path(__file__).with_name("case.npz"))), Path(folder))
        except Exception:  # whatever the sources raise is shown, and told from a divergence by the exit code
            traceback.print_exc()
            return 2


def report(pair, case, folder):
    """Runs both, compares, prints. The first module whose output differs is told where the runs can tell."""
    for line in versions():
        print(line)
    left, right = (f"{run.side} {run.program} {dict(run.settings) or ''}".strip() for run in case.runs)
    print(f"case       {CASE}\nleft       {left}\nright      {right}\noriginally {DESCRIBED}\n")
    found, compared = compare(*(observe(pair, case, run, run.program) for run in case.runs))
    if found:
        print(f"first divergence: {found[0][0]}")
        print("\n".join(f"  {line}" for line in found[0][1]))
        print(f"{len(found)} of {compared} values differ")
    if TAPS and found:
        places, outputs = compare(*(observe(pair, case, run, TAPS) for run in case.runs))
        tell(places, outputs)
    elif MODULE:
        print(f"placed by the harness in {MODULE}")
    if outside := strays(folder):
        raise ImportError(f"imported from elsewhere than this file: {', '.join(outside)}")
    print("DIVERGED" if found else f"AGREE: {compared} values are equal")
    return 1 if found else 0


def tell(places, outputs):
    """The module that is suspected: the first, in forward order, whose output differs."""
    if not places:
        print(f"every module's output agrees when run by itself ({outputs} outputs)")
        return
    print(f"first module, in forward order, whose output differs: {places[0][0].partition('/')[2]}")
    print("\n".join(f"  {line}" for line in places[0][1]))
    print(f"{len(places)} of {outputs} outputs differ")


def versions():
    """The libraries here, and those of the run that this file reproduces."""
    here = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            here[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            here[name] = "absent"
    yield f"here       {', '.join(f'{name} {version}' for name, version in here.items())}"
    yield f"originally {', '.join(f'{name} {version}' for name, version in ORIGINAL.items())}"


def unpack(folder):
    """Writes the sources below into `folder` and makes them the first that an import finds."""
    for name, content in SOURCES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    sys.path.insert(0, str(folder))


def strays(folder):
    """Modules that should have come from this file, and did not: an installed copy proves nothing."""
    own = {name.partition("/")[0].removesuffix(".py") for name in SOURCES}
    found = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    mine = {name: Path(file) for name, file in found.items() if file and name.partition(".")[0] in own}
    return sorted(f"{name} ({file})" for name, file in mine.items() if not file.is_relative_to(folder))


def load(path):
    """Weights and inputs: name -> array that cannot be written to."""
    kinds: dict[str, dict[str, np.ndarray]] = {"weights": {}, "inputs": {}}
    with np.load(path, allow_pickle=False) as stored:
        for key in stored.files:
            kind, _, name = key.partition("/")
            kinds[kind][name] = read(stored[key], *DTYPES.get(key, ("", ())))
            kinds[kind][name].setflags(write=False)
    return kinds["weights"], kinds["inputs"]


def read(array, dtype, shape):
    """The array of a dtype that NumPy cannot store by itself (bfloat16, float8...): its bytes were stored."""
    if not dtype:
        return array
    import ml_dtypes

    return array.view(np.dtype(getattr(ml_dtypes, dtype))).reshape(shape)


def observe(pair, case, run, program):
    """What one side returned, channel -> name -> array, and the error that it raised, or None."""
    import jax

    jax.clear_caches()
    try:
        channels = pair.sides[run.side].programs[program](case, run)
        return {channel: {name: np.array(v) for name, v in values.items()} for channel, values in channels.items()}, ""
    except Exception as problem:  # an error of one side is what some cases show
        traceback.print_exc()
        return {}, f"{type(problem).__name__}: {problem}"


def compare(one, other):
    """Every difference, in forward order, as (what differs, lines to print); and how many values were compared."""
    (left, wrong), (right, also_wrong) = one, other
    found = []
    if wrong != also_wrong:
        lines = [f"left   {wrong or said(left)}", f"right  {also_wrong or said(right)}"]
        return [("outputs/error (error)", lines)], 1
    count = 0
    order = {channel: at for at, channel in enumerate(CHANNELS)}
    for channel in sorted({*left, *right}, key=lambda name: (order.get(name, len(order)), name)):
        ours, theirs = left.get(channel, {}), right.get(channel, {})
        for name in (*ours, *(name for name in theirs if name not in ours)):
            reason, lines = differ(channel, name, ours.get(name), theirs.get(name))
            count += 1
            if reason:
                found.append((f"{channel}/{name} ({reason})", lines))
    return found, count


def said(channels):
    """What a side returned instead of an error."""
    kinds = [
        f"{channel}/{name} {v.dtype}{list(v.shape)}" for channel in channels for name, v in channels[channel].items()
    ]
    return f"no error; {len(kinds)} values: {', '.join(kinds[:4])}{'...' if len(kinds) > 4 else ''}"


def differ(channel, name, a, b):
    """Why two values are not the same ("" if they are), and lines that show it. A claim must hold on both sides."""
    if a is None or b is None:
        words = [f"{value.dtype}{list(value.shape)}" if value is not None else "absent" for value in (a, b)]
        return "missing" if b is None else "extra", [f"left   {words[0]}", f"right  {words[1]}"]
    if channel == "claims":
        return "" if a.dtype == b.dtype == bool and a.all() and b.all() else "claim", [f"left   {a}", f"right  {b}"]
    text = a.dtype.kind == b.dtype.kind == "U"
    if a.dtype != b.dtype and not text:
        return "dtype", [f"left   {a.dtype}", f"right  {b.dtype}"]
    if a.shape != b.shape:
        return "shape", [f"left   {list(a.shape)}", f"right  {list(b.shape)}"]
    if text or a.dtype.kind == "S":
        place = np.argmax(a != b) if a.size else 0
        return ("", []) if np.array_equal(a, b) else ("text", [f"left   {a.flat[place]}", f"right  {b.flat[place]}"])
    return ("", []) if a.tobytes() == b.tobytes() else measure(f"{channel}/{name}", a, b)


def measure(label, a, b):
    """How far two arrays of one shape and dtype are apart, at the elements whose bits differ."""
    x, y = (np.ascontiguousarray(value).reshape(-1) for value in (a, b))
    parts = 2 if a.dtype.kind == "c" else 1
    x, y = (value.view(value.real.dtype) if parts == 2 else value for value in (x, y))
    where = np.flatnonzero(x.view(f"u{x.itemsize}") != y.view(f"u{y.itemsize}"))
    with np.errstate(all="ignore"):
        p, q = x[where].astype(np.float64), y[where].astype(np.float64)
        finite = np.isfinite(p) & np.isfinite(q)
        odd = ~finite & (p != q) & ~(np.isnan(p) & np.isnan(q))
        gap = np.where(finite, np.abs(p - q), 0)
        size = np.where(finite, np.maximum(np.abs(p), np.abs(q)), 0)
        relative = np.divide(gap, size, out=np.zeros_like(gap), where=size > 0)
    granted = next(((rtol, atol) for pattern, rtol, atol, _ in ALLOWED if fnmatchcase(label, pattern)), (0, -1))
    if not odd.any() and (gap <= granted[1] + granted[0] * size).all():
        return "", []
    worst = int(where[np.argmax(odd if odd.any() else gap)]) // parts
    return "nonfinite" if odd.any() else "value", [
        f"{a.dtype}{list(a.shape)}, worst at {[int(i) for i in np.unravel_index(worst, a.shape)]}",
        f"left   {a.flat[worst]!s}",
        f"right  {b.flat[worst]!s}",
        f"max abs {gap.max():.3g}, max rel {relative.max():.3g}; {len(where)} of {x.size} elements differ",
    ]
