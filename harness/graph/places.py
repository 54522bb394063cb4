"""Where an operation comes from: the code base's own line, and the module path that its framework names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from jax.extend.mlir import ir

from harness.proof import Place

__all__ = ["place"]

_LIBRARIES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def place(location: Any) -> Place:
    """Reads an MLIR location; None, of an input, has no place."""
    if location is None:
        return Place("", 0, "")
    name = location.name_str if isinstance(location, ir.NameLoc) else ""
    frames = list(_frames(location))
    own = [frame for frame in frames if not any(library in frame[0] for library in _LIBRARIES)]
    file, line = (own or frames or [("", 0)])[0]
    return Place(file, line, name)


def _frames(location: Any) -> Iterator[tuple[str, int]]:
    """Every file and line of a location, innermost first."""
    if isinstance(location, ir.FileLineColLoc):
        yield location.filename if isinstance(location.filename, str) else location.filename.value, location.start_line
    elif isinstance(location, ir.NameLoc):
        yield from _frames(location.child_loc)
    elif isinstance(location, ir.CallSiteLoc):
        yield from _frames(location.callee)
        yield from _frames(location.caller)
    elif isinstance(location, ir.FusedLoc):
        for part in location.locations:
            yield from _frames(part)
