"""Run as a program in a fresh interpreter: which modules, files and functions a draft needs. Needs nothing of ours.

    python probe.py DRAFT ANSWER PATHS

DRAFT is a reproduction without its sources, run with the import path PATHS (JSON). ANSWER gets JSON text: "code" the
draft's exit code, "modules" name -> file ("" for a package without one), "packages" names, "read" files opened,
"ran" file -> lines on which functions begin that were called.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import threading
from inspect import CO_NEWLOCALS
from pathlib import Path
from types import CodeType, FrameType

__all__ = ["main"]


def main() -> int:
    """Runs the draft and writes the answer. Returns 0 whatever the draft does."""
    draft, answer, paths = sys.argv[1:]
    sys.path[:] = json.loads(paths)
    opened: set[str] = set()
    ran: set[CodeType] = set()

    def note(event: str, args: tuple[object, ...]) -> None:
        if event == "open" and isinstance(args[0], str | bytes) and _reads(args[1], args[2]):
            opened.add(os.path.realpath(os.fsdecode(args[0])))

    def enter(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            ran.add(frame.f_code)

    sys.addaudithook(note)
    threading.setprofile(enter)
    sys.setprofile(enter)
    code = runpy.run_path(draft, run_name="reproduce")["main"]()
    sys.setprofile(None)
    modules = {name: module for name, module in sys.modules.items() if name != "__main__"}
    files = {name: getattr(module, "__file__", None) for name, module in modules.items()}
    found = {
        "code": code,
        "modules": {name: os.path.realpath(file) if file else "" for name, file in files.items()},
        "packages": sorted(name for name, module in modules.items() if hasattr(module, "__path__")),
        "read": sorted(opened),
        "ran": _lines(ran),
    }
    Path(answer).write_text(json.dumps(found), encoding="utf-8")
    return 0


def _lines(ran: set[CodeType]) -> dict[str, list[int]]:
    """File -> first lines of its functions. What an import itself runs (bodies, comprehensions) has no name, or no
    locals of its own, and does not count."""
    lines: dict[str, list[int]] = {}
    for code in ran:
        if code.co_flags & CO_NEWLOCALS and not code.co_name.startswith("<"):
            lines.setdefault(os.path.realpath(code.co_filename), []).append(code.co_firstlineno)
    return {file: sorted(set(found)) for file, found in lines.items()}


def _reads(mode: object, flags: object) -> bool:
    """Whether a file was opened to be read only; `os.open` gives flags and no mode."""
    if isinstance(mode, str):
        return not set(mode) & set("wax+")
    return isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) == 0


if __name__ == "__main__":
    sys.exit(main())
