"""Which of the four trees that MaxText has written over the years a checkpoint is. Read from the tree, never a name.

| name | written by | shape of the tree |
|---|---|---|
| D1 | Linen | params/params/<model>, opt_state, step int32 |
| D2 | NNX since July 2026 | D1 and nnx_aux/model/<random streams and other state> |
| D3 | NNX of May 2026 | model/<model and streams>, optimizer/{opt_state, step uint32} |
| D4 | nnx.State saved as it is | as D3, or the bare model, every array below {value:} |
"""

from __future__ import annotations

from typing import Literal

from impl.checkpoint.dialects.kinds import out_of_value
from impl.checkpoint.dialects.layers import is_array
from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.leaves.leaf import Leaves, Path, show
from impl.checkpoint.leaves.tree import sort_key

__all__ = ["LINEN", "NNX", "Dialect", "detect", "model_root"]

Dialect = Literal["D1", "D2", "D3", "D4"]
LINEN: frozenset[str] = frozenset({"D1", "D2"})
NNX: frozenset[str] = frozenset({"D3", "D4"})

_KNOWN = {
    "params": {"params", "opt_state", "step", "nnx_aux"},
    "model": {"model", "optimizer", "collections"},
}
_BARE = {"decoder", "encoder", "token_embedder"}


def detect(leaves: Leaves) -> Dialect:
    """The dialect of a tree. Raises CheckpointError, listing the top-level keys, when none fits."""
    tops = sorted({path[0] for path in leaves if path})
    if any(path[:2] == ("params", "params") for path in leaves):
        _only_known(tops, "params")
        return "D2" if "nnx_aux" in tops else "D1"
    if "model" in tops:
        _only_known(tops, "model")
        return "D4" if _wrapped(leaves, ("model",)) else "D3"
    if tops == ["base"] or _BARE & set(tops):
        root = ("base",) if tops == ["base"] else ()
        if _wrapped(leaves, root):
            return "D4"
    raise CheckpointError(
        f"no known checkpoint tree: top-level keys {tops[:12]}, expected params/params (Linen), model (NNX), or a bare "
        "model whose arrays lie below {value:}: give a training or parameter checkpoint of one of these"
    )


def _only_known(tops: list[str], kind: str) -> None:
    strange = sorted(set(tops) - _KNOWN[kind])
    if strange:
        raise CheckpointError(
            f"top-level keys {strange} beside {kind!r}: only {sorted(_KNOWN[kind])} are understood, and nothing is "
            "dropped in silence: save a plain train state (a DiLoCo run has one per replica below inner_state)"
        )


def model_root(leaves: Leaves, dialect: Dialect) -> Path:
    """Path of the model in a tree of that dialect."""
    if dialect in LINEN:
        return ("params", "params")
    tops = {path[0] for path in leaves if path}
    return ("model",) if "model" in tops else (("base",) if tops == {"base"} else ())


def _wrapped(leaves: Leaves, root: Path) -> bool:
    """Whether the arrays below `root` lie in {value:}; streams may be either way. Half of them is an error."""
    below = [
        path for path, leaf in leaves.items() if path[: len(root)] == root and is_array(leaf) and not _is_stream(path)
    ]
    inside = [path for path in below if out_of_value(path) != path]
    outside = sorted(set(below) - set(inside), key=sort_key)
    if inside and outside:
        raise CheckpointError(
            f"{show(inside[0])} lies in {{value:}} and {show(outside[0])} does not, expected all or none: "
            "save the state either whole or as a pure dict"
        )
    return bool(inside)


def _is_stream(path: Path) -> bool:
    return any(part.endswith("rngs") for part in path)
