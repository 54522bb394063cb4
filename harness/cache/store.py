"""Verdicts on disk: one JSON file a case. What cannot be read counts as absent and is replaced."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.aside import write
from harness.digest import of_settings
from harness.runner.surroundings import cache_folder
from harness.verdict import Verdict
from harness.verdict_json import from_json, to_json

__all__ = ["Entry", "keep", "key_of", "read", "remove", "shrink", "verdict_folder"]

VERSION = 1
MOST = 2000
"""Entries that are kept: the oldest ones go first."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A verdict and what it rests on.

    parts: "code", "golden", "toolchain"... -> digest. roots: the packages and files that are the code.
    """

    case: str
    parts: Mapping[str, str]
    roots: tuple[str, ...]
    verdict: Verdict


def verdict_folder(environment: Mapping[str, str]) -> Path:
    """Where verdicts are kept: HARNESS_CACHE, else the user's cache folder, and in it "verdicts"."""
    chosen = environment.get("HARNESS_CACHE")
    own = {name: value for name, value in environment.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    return (Path(chosen) if chosen else cache_folder(own).parent) / "verdicts"


def key_of(parts: Mapping[str, str]) -> str:
    """One digest for all that a verdict rests on."""
    return of_settings(dict(parts))


def read(folder: Path, name: str) -> Entry | None:
    """The entry called `name`, None if there is none that can be read."""
    try:
        found = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        parts = {str(part): str(digest) for part, digest in found["parts"].items()}
        if found["version"] != VERSION or found["key"] != key_of(parts):
            return None
        entry = Entry(
            case=str(found["case"]),
            parts=parts,
            roots=tuple(map(str, found["roots"])),
            verdict=from_json(found["verdict"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return entry if entry.case == entry.verdict.case and entry.verdict.passed else None


def keep(folder: Path, name: str, entry: Entry) -> None:
    """Writes an entry aside, then renames it. Raises OSError where that cannot be done."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "version": VERSION,
        "key": key_of(entry.parts),
        "case": entry.case,
        "parts": dict(entry.parts),
        "roots": list(entry.roots),
        "verdict": to_json(entry.verdict),
    }
    write(folder / f"{name}.json", json.dumps(content).encode())


def remove(folder: Path, name: str) -> None:
    """Forgets an entry, as far as the folder lets it."""
    with contextlib.suppress(OSError):
        (folder / f"{name}.json").unlink()


def shrink(folder: Path, most: int = MOST) -> None:
    """Drops the oldest entries beyond `most`, and what broken writes left behind an hour ago or more."""
    aged = []
    with contextlib.suppress(OSError), os.scandir(folder) as found:
        for each in found:
            with contextlib.suppress(OSError):
                aged.append((each.stat().st_mtime, each.name))
    entries = sorted((pair for pair in aged if pair[1].endswith(".json")), reverse=True)
    newest = entries[0][0] if entries else 0.0
    parts = [name for age, name in aged if name.endswith(".part") and age < newest - 3600]
    for name in [*(name for _, name in entries[most:]), *parts]:
        with contextlib.suppress(OSError):
            (folder / name).unlink()
