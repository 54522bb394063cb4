"""From a plan to a folder that was seen to work: draft, closure, file, a run of it alone, and only then its name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from harness.reproduce.closure import Closure, closures
from harness.reproduce.document import document, imported
from harness.reproduce.plan import ARRAYS, Plan, ReproductionError
from harness.runner.surroundings import surroundings

__all__ = ["FILES", "SCRIPT", "write"]

SCRIPT = "reproduce.py"
FILES = frozenset((SCRIPT, ARRAYS))
"""What a reproduction's folder holds."""


def write(plan: Plan, arrays: bytes, folder: Path, seconds: float) -> str:
    """Writes `plan` and the case's arrays as `folder`, replacing an earlier reproduction, and returns what it prints.

    It is written aside and run there alone: `python -I` in an empty folder, without this process's import path.
    seconds: limit of each run. Raises ReproductionError if it does not show what the plan says, and then leaves
    nothing behind.
    """
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        aside.mkdir()
        (aside / ARRAYS).write_bytes(arrays)
        small, whole = _needed(plan, arrays, seconds)
        try:
            printed = _tried(plan, small, aside / SCRIPT, seconds)
        except ReproductionError:  # something that looked unused is used, in a way that only running it shows
            printed = _tried(plan, whole, aside / SCRIPT, seconds)
        _renamed(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return printed


def _needed(plan: Plan, arrays: bytes, seconds: float) -> tuple[Closure, Closure]:
    with tempfile.TemporaryDirectory(prefix="harness-reproduce-") as scratch:
        draft = Path(scratch) / SCRIPT
        draft.write_text(document(plan, Closure(sources={}, libraries=("jax",))), encoding="utf-8")
        (Path(scratch) / ARRAYS).write_bytes(arrays)
        return closures(draft, imported(plan), surroundings(os.environ), seconds)


def _tried(plan: Plan, needed: Closure, script: Path, seconds: float) -> str:
    """Writes `script` and returns what it prints. Raises ReproductionError unless that is what the plan says."""
    script.write_text(document(plan, needed), encoding="utf-8", newline="\n")
    return _checked(plan, script, seconds)


def _checked(plan: Plan, script: Path, seconds: float) -> str:
    """What the file prints when it is run by itself. Raises ReproductionError unless it shows what the plan says."""
    with tempfile.TemporaryDirectory(prefix="harness-reproduce-") as empty:
        try:
            command = [sys.executable, "-I", str(script.absolute())]
            done = subprocess.run(
                command, cwd=empty, env=_bare(os.environ), capture_output=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired as problem:
            raise ReproductionError(f"the file did not end within {seconds:g} s: raise --timeout") from problem
    printed = done.stdout.decode(errors="replace")
    told = re.search(r"^first divergence: (.*)$", printed, re.MULTILINE)
    place = re.search(r"^first module, in forward order, whose output differs: (.*) \(\w+\)$", printed, re.MULTILINE)
    shows = told.group(1) if told else ""
    code = 1 if plan.first else 0
    words = done.stderr.decode(errors="replace")[-2000:]
    if done.returncode != code or shows != plan.first:
        raise ReproductionError(
            f"the file, run by itself, ended with code {done.returncode} and showed {shows or 'no divergence'!r}; the "
            f"harness saw code {code} and {plan.first or 'no divergence'!r}, so it was not kept. It said: {words}"
        )
    if plan.taps and (place is None or place.group(1) != plan.module):
        found = place.group(1) if place else "nowhere"
        raise ReproductionError(f"the file places the divergence in {found!r}, the harness in {plan.module!r}: {words}")
    return printed


def _bare(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what leads Python or JAX: the file has to say all that itself. The cache may stay."""
    kept = {name: value for name, value in environment.items() if not name.startswith(("JAX_", "PYTHON", "XLA_"))}
    return kept | {name: value for name, value in surroundings(environment).items() if "CACHE" in name}


def _renamed(aside: Path, folder: Path) -> None:
    """Gives `aside` its name. An earlier reproduction makes room, and comes back if that fails."""
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        folder.rename(old)
    try:
        aside.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
