"""Put edits into a copy of the packages that they belong to. The originals are only read."""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.faults.record import CatalogueError, Edit

__all__ = ["edited", "inject", "packages"]


def packages(edits: Sequence[Edit]) -> tuple[str, ...]:
    """The top-level packages that `edits` touch, in the order in which they are named."""
    return tuple(dict.fromkeys(edit.file.partition("/")[0] for edit in edits))


def edited(name: str, edits: Sequence[Edit], root: Path) -> Mapping[str, str]:
    """File -> its text with all `edits` of the entry called `name` made, one after the other.

    Raises CatalogueError if a file is missing or outside a package, if a text does not stand exactly once in it, or
    if an edit changes nothing.
    """
    texts: dict[str, str] = {}
    for edit in edits:
        path = root / edit.file
        if "/" not in edit.file or ".." in Path(edit.file).parts or not path.is_file():
            raise CatalogueError(f"{name!r}: {edit.file} is no file of a package in {root}: mend or remove the entry")
        text = texts.get(edit.file) or path.read_text(encoding="utf-8")
        if edit.old == edit.new:
            raise CatalogueError(f"{name!r}: the edit of {edit.file} changes nothing: {edit.old!r}")
        if (count := text.count(edit.old)) != 1:
            raise CatalogueError(_stale(name, edit, text, count))
        texts[edit.file] = text.replace(edit.old, edit.new)
    return texts


def inject(name: str, edits: Sequence[Edit], root: Path, folder: Path) -> None:
    """Copies the packages of `edits` from `root` into `folder` and makes the edits there. Raises CatalogueError."""
    texts = edited(name, edits, root)
    for package in packages(edits):
        shutil.copytree(root / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file, text in texts.items():
        (folder / file).write_text(text, encoding="utf-8")


def _stale(name: str, edit: Edit, text: str, count: int) -> str:
    """Why an edit cannot be made, with the line of the file that looks most like the text's first."""
    if count:
        return f"{name!r}: {edit.file} holds {edit.old!r} {count} times: add lines around it until it is unique"
    first = next((line.strip() for line in edit.old.splitlines() if line.strip()), "")
    close = difflib.get_close_matches(first, [line.strip() for line in text.splitlines()], n=1, cutoff=0.2)
    hint = f"; the nearest line is {close[0]!r}" if close else ""
    return f"{name!r}: {edit.file} no longer holds {edit.old!r}{hint}. The code has changed: bring the entry up to date"
