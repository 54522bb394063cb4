"""Which code a case ran, and a digest of it that comments, docstrings and formatting do not change."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import os
import sysconfig
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

__all__ = ["Code", "code_of", "roots"]

SCENARIOS = "_harness_scenarios"
"""What `harness.discover` calls the modules of a folder of scenarios, every one of which it imports."""

LARGEST, MOST = 256 * 2**20, 20_000
"""Bytes and files of a package beyond which its digest would cost more than it saves."""


@dataclass(frozen=True, kw_only=True)
class Code:
    """digest: of all files of a root, "" if it cannot be had (gone, unreadable, too large). changed: the time of the
    last change of any of them, in seconds since the epoch."""

    digest: str
    changed: float


def roots(modules: Mapping[str, ModuleType], scenario: str) -> tuple[str, ...]:
    """The folders of packages and the single files that `modules` (name -> module) come from, sorted.

    What is installed or belongs to Python is left out: its version tells. Of the scenarios only `scenario` counts.
    """
    found = set()
    for name, module in list(modules.items()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or _installed(Path(file)):
            continue
        top = name.partition(".")[0]
        if top == SCENARIOS:
            found |= {file} if name == f"{SCENARIOS}.{scenario}" else set()
            continue
        folders = [str(folder) for folder in getattr(modules.get(top), "__path__", ())]
        found.add(next((folder for folder in folders if Path(file).is_relative_to(folder)), file))
    return tuple(sorted(str(Path(root).absolute()) for root in found))


def code_of(root: str) -> Code:
    """The code of a package's folder or of one file. Python counts by its syntax tree, other files by their bytes."""
    lines: list[str] = []
    changed, size = 0.0, 0
    try:
        for path in _files(Path(root)):
            content = path.read_bytes()
            size += len(content)
            changed = max(changed, path.stat().st_ctime)
            if size > LARGEST or len(lines) >= MOST:
                return Code(digest="", changed=changed)
            lines.append(f"{path.relative_to(root).as_posix()}\0{_digest(path, content)}")
    except OSError:
        return Code(digest="", changed=changed)
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest() if lines else ""
    return Code(digest=digest, changed=changed)


def _files(root: Path) -> Iterator[Path]:
    """Every file of a root in a fixed order, but for what Python itself writes."""
    if not root.is_dir():
        yield root
        return
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if name != "__pycache__")
        yield from (Path(folder, name) for name in sorted(names))


def _installed(path: Path) -> bool:
    if {"site-packages", "dist-packages"} & set(path.parts):
        return True
    places = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    return any(path.is_relative_to(place) for place in places)


def _digest(path: Path, content: bytes) -> str:
    if path.suffix == ".py":
        # What is no Python, or none of this version (a template), counts by its bytes. Its warnings are not ours.
        with warnings.catch_warnings(), contextlib.suppress(SyntaxError, ValueError, RecursionError):
            warnings.simplefilter("ignore")
            content = ast.dump(_bare(ast.parse(content))).encode("utf-8", "backslashreplace")
    return hashlib.sha256(content).hexdigest()


def _bare(tree: ast.Module) -> ast.Module:
    """The tree without its docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                del node.body[0]
    return tree
