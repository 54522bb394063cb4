"""What a leaf of a model is, told by its name: state that Linen keeps in collections of its own, and lists.

Linen writes such state beside the weights, NNX among them; the paths below the model are the same.
  _overwrite_with_gradient   <t>_scale beside <t>_amax_history: statistics of 8-bit products
  batch_stats                mean beside var: running statistics
  aqt                        qrhs/frozen/{qvalue, scale/<i>}: a quantised kernel and its scales
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from impl.checkpoint.dialects.layers import ROOT, group_of, inner_of
from impl.checkpoint.leaves.leaf import Leaf, Leaves, Path

__all__ = ["AQT", "BATCH", "STATISTICS", "collections_of", "in_value", "inside_and_beside", "out_of_value", "place_of"]

STATISTICS = "_overwrite_with_gradient"
BATCH = "batch_stats"
AQT = "aqt"

_HISTORY, _SCALE = "_amax_history", "_scale"
_OPERANDS = {"qlhs", "qrhs"}


def collections_of(paths: Collection[Path]) -> dict[Path, str]:
    """Path of a model -> the collection that Linen keeps it in, for those that Linen keeps in one."""
    known = paths if isinstance(paths, set | dict) else set(paths)
    found = {}
    for path in paths:
        name = _collection(path, known)
        if name:
            found[path] = name
    return found


def inside_and_beside(collections: Mapping[str, Leaves]) -> tuple[dict[Path, Leaf], dict[str, dict[Path, Leaf]]]:
    """Linen's collections as NNX has them: what is inside the model, and what no name tells and stays beside."""
    inside: dict[Path, Leaf] = {}
    beside: dict[str, dict[Path, Leaf]] = {}
    for name, tree in collections.items():
        known = collections_of(tree)
        inside |= {path: leaf for path, leaf in tree.items() if known.get(path) == name}
        rest = {path: leaf for path, leaf in tree.items() if known.get(path) != name}
        if rest:
            beside[name] = rest
    return inside, beside


def _collection(path: Path, paths: Collection[Path]) -> str:
    last = path[-1]
    if last.endswith(_HISTORY):
        twin = last.removesuffix(_HISTORY) + _SCALE
        return STATISTICS if (*path[:-1], twin) in paths else ""
    if last.endswith(_SCALE):
        return STATISTICS if (*path[:-1], last.removesuffix(_SCALE) + _HISTORY) in paths else ""
    if last in ("mean", "var"):
        return BATCH if (*path[:-1], "var" if last == "mean" else "mean") in paths else ""
    return AQT if _frozen(path) else ""


def _frozen(path: Path) -> int:
    """Number of parts up to a quantised tensor, which has parts of its own below it; 0 where there is none."""
    # Short paths are most of a tree, and looking for a word in a tuple is quick.
    if "frozen" not in path[1:-1]:
        return 0
    at = path.index("frozen", 1)
    return at + 1 if path[at - 1] in _OPERANDS else 0


def in_value(path: Path) -> Path:
    """`path` below {value:}, as nnx.State is saved: around a quantised tensor, not around each of its parts."""
    at = _frozen(path) or len(path)
    return (*path[:at], "value", *path[at:])


def out_of_value(path: Path) -> Path:
    """`path` without its {value:}; the same path where it has none."""
    at = _frozen(path)
    if at and path[at] == "value" and len(path) > at + 1:
        return path[:at] + path[at + 1 :]
    return path[:-1] if path[-1] == "value" else path


def place_of(path: Path) -> Path:
    """`path` without the group, the number and the inner name of its layer: the same in every layer and layout."""
    if len(path) < 2 or path[0] != ROOT or not group_of(path[1]):
        return path
    rest = path[2:]
    if rest and rest[0].isdecimal():
        rest = rest[1:]
    if rest and inner_of(rest[0]) >= 0:
        rest = rest[1:]
    return (ROOT, "*", *rest)
