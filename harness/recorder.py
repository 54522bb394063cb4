"""Record what a function computes, for a judge elsewhere. Needs jax and the standard library alone: copy this file.

A recording is a zip file of two members: the lowered program as portable StableHLO bytecode, and the neutral name of
each of its inputs and outputs, with the versions that lowered it. Nothing is run, and no array is made: arguments may
be `jax.ShapeDtypeStruct`. `harness prove LEFT RIGHT` reads two of them.

    record("left.hlo.zip", loss_and_grads, params, batch, inputs=neutral_in, outputs=neutral_out)
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

__all__ = ["FORMAT", "MEMBERS", "Leaf", "Lowered", "leaf_paths", "lower", "record", "write"]

FORMAT = 1
MEMBERS = ("recording.json", "program.mlirbc")
_EPOCH = (2020, 1, 1, 0, 0, 0)


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One array that enters or leaves a program.

    names: its neutral name; or, where layers are stacked, the name of each layer in turn, and then `axis` is the axis
    that they are stacked on. axis is -1 for an array that is not a stack.
    """

    names: tuple[str, ...]
    axis: int = -1


@dataclasses.dataclass(frozen=True)
class Lowered:
    """A program that was lowered: `ir` is its StableHLO module, `toolchain` what lowered it (name -> version)."""

    ir: Any
    inputs: tuple[Leaf, ...]
    outputs: tuple[Leaf, ...]
    toolchain: Mapping[str, str]


def leaf_paths(tree: Any) -> tuple[str, ...]:
    """The path of each leaf of a pytree: keys, indices and attribute names joined by "/"."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return tuple("/".join(_key(entry) for entry in path) for path, _ in leaves)


def lower(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    inputs: Callable[[str], str | Leaf] = str,
    outputs: Callable[[str], str | Leaf] = str,
) -> Lowered:
    """Lower `function(*arguments)` with every argument kept, on abstract values.

    inputs, outputs: path of a leaf ("0/params/decoder/norm/scale": the argument's position first) -> its neutral name,
    or a Leaf where it is a stack of layers. Without them, paths are names.
    Raises ValueError if two inputs, or two outputs, are given one name.
    """
    lowered = jax.jit(function, keep_unused=True).lower(*arguments)
    named = [_leaf(inputs(path)) for path in leaf_paths(tuple(arguments))]
    hoisted = [Leaf((f"constant {_digest(value)}",)) for value in _constants(lowered)]
    out = [_leaf(outputs(path)) for path in leaf_paths(lowered.out_info)]
    for what, leaves in (("inputs", named), ("outputs", out)):
        names = [name for leaf in leaves for name in leaf.names]
        if twice := sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []:
            raise ValueError(f"two {what} are called {', '.join(twice)}: give each leaf a neutral name of its own")
    toolchain = {"python": sys.version.split()[0], "jax": jax.__version__, "jaxlib": _jaxlib_version()}
    ir = lowered.compiler_ir("stablehlo")
    return Lowered(ir=ir, inputs=(*hoisted, *named), outputs=tuple(out), toolchain=toolchain)


def record(
    path: str | os.PathLike[str],
    function: Callable[..., Any],
    *arguments: Any,
    inputs: Callable[[str], str | Leaf] = str,
    outputs: Callable[[str], str | Leaf] = str,
) -> None:
    """Lower `function(*arguments)` as `lower` does and write the recording to `path`."""
    write(path, lower(function, arguments, inputs, outputs))


def write(path: str | os.PathLike[str], lowered: Lowered) -> None:
    """Write a recording aside, then rename it to `path`."""
    header = {
        "format": FORMAT,
        "inputs": [{"names": leaf.names, "axis": leaf.axis} for leaf in lowered.inputs],
        "outputs": [{"names": leaf.names, "axis": leaf.axis} for leaf in lowered.outputs],
        "toolchain": dict(lowered.toolchain),
    }
    contents = (json.dumps(header, indent=1).encode(), _portable(lowered.ir))
    part = f"{os.fspath(path)}.{os.getpid()}.part"
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in zip(MEMBERS, contents):  # noqa: B905  (strict= came with Python 3.10)
                archive.writestr(zipfile.ZipInfo(member, _EPOCH), content, zipfile.ZIP_DEFLATED)
        os.replace(part, path)
    finally:
        if os.path.exists(part):
            os.unlink(part)


def _leaf(name: str | Leaf) -> Leaf:
    return name if isinstance(name, Leaf) else Leaf((name,))


def _key(entry: Any) -> str:
    for attribute in ("key", "idx", "name"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    return str(entry)


def _constants(lowered: Any) -> Sequence[Any]:
    """Arrays that the function closes over and that newer versions of jax hand in ahead of its arguments."""
    return getattr(getattr(lowered, "_lowering", None), "const_args", None) or ()


def _digest(value: Any) -> str:
    array = np.asarray(value)
    return hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).hexdigest()[:32]


def _jaxlib_version() -> str:
    import jaxlib

    return str(getattr(jaxlib, "__version__", "") or jaxlib.version.__version__)


def _portable(module: Any) -> bytes:
    """StableHLO in the form that later and some earlier versions can read."""
    from jax.extend import mlir
    from jaxlib.mlir.dialects import stablehlo

    requirement = getattr(stablehlo, "StablehloCompatibilityRequirement", None)
    version = (
        stablehlo.get_version_from_compatibility_requirement(requirement.WEEK_12)
        if requirement
        else stablehlo.get_minimum_version()
    )
    # Shardings travel as StableHLO too: their own dialect has no form that another version is sure to read.
    return mlir.serialize_portable_artifact(module, version)
