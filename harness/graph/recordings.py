"""Recordings from disk: what `harness.recorder` wrote, on whatever version of jax, read by this one."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from jax.extend.mlir import ir
from jaxlib.mlir.dialects import chlo, sdy, stablehlo

from harness.recorder import FORMAT, MEMBERS, Leaf, Lowered

__all__ = ["RecordingError", "load"]

_LARGEST = 2**31
"""Bytes that a member may unpack to: a program is text, so anything near this is no recording."""


class RecordingError(ValueError):
    """A file that is no recording that can be read here. The message names it and the cure."""


def load(path: Path) -> Lowered:
    """The recording at `path`. Raises RecordingError."""
    header, program = _members(path)
    try:
        described = json.loads(header)
        if described["format"] != FORMAT:
            raise RecordingError(
                f"{path} has format {described['format']!r}, this harness reads {FORMAT}: record it again with its "
                "harness/recorder.py"
            )
        inputs, outputs = (tuple(_leaf(each) for each in described[what]) for what in ("inputs", "outputs"))
        toolchain = {str(name): str(version) for name, version in described["toolchain"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        if isinstance(problem, RecordingError):
            raise
        raise RecordingError(
            f"{path}: {MEMBERS[0]} is not what the recorder writes ({type(problem).__name__}: {problem}): record again"
        ) from problem
    return Lowered(ir=_module(path, program, toolchain), inputs=inputs, outputs=outputs, toolchain=toolchain)


def _members(path: Path) -> tuple[bytes, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
            if large := [name for name in MEMBERS if sizes.get(name, 0) > _LARGEST]:
                raise RecordingError(f"{path}: {large[0]} unpacks to {sizes[large[0]]} bytes: that is no program")
            header, program = (archive.read(member) for member in MEMBERS)
    except FileNotFoundError as problem:
        raise RecordingError(f"{path} does not exist: name a file that harness/recorder.py wrote") from problem
    except (OSError, KeyError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as problem:
        raise RecordingError(
            f"{path} is no recording ({problem}): write one with `record` of harness/recorder.py"
        ) from problem
    return header, program


def _leaf(described: Any) -> Leaf:
    names, axis = described["names"], described["axis"]
    if not names or not all(isinstance(name, str) for name in names) or not isinstance(axis, int):
        raise ValueError(f"{described} names no array")
    if axis < 0 and len(names) > 1:
        raise ValueError(f"{names} are stacked on no axis")
    return Leaf(tuple(names), axis)


def _module(path: Path, program: bytes, toolchain: dict[str, str]) -> Any:
    context = ir.Context()
    # Dialects of other tools, kept as they are: what they do is not known, so they are equal to nothing.
    context.allow_unregistered_dialects = True
    # `func` needs no registration: it comes with the bindings.
    for dialect in (stablehlo, chlo, sdy):
        dialect.register_dialect(context)
    try:
        return stablehlo.deserialize_portable_artifact(context, program)
    except Exception as problem:  # the bindings raise their own kinds
        raise RecordingError(
            f"{path}: its program, lowered by jax {toolchain.get('jax', '?')}, cannot be read by this jaxlib "
            f"({problem}): judge it with a jax at least as new"
        ) from problem
