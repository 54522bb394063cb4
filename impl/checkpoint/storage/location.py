"""Where a checkpoint lies, and how a new one gets its name only when it is complete.

A checkpoint is found from any of: a step directory, its `items` folder, a folder written without steps, a manager's
root. It is written to a folder beside the target whose name carries Orbax's mark of an unfinished checkpoint, which
every restore refuses, and renamed when it is complete.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import glob
import os
import platform
import re
import shutil
import uuid
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from impl.checkpoint.errors import CheckpointError
from impl.checkpoint.storage.orbax_reading import read_step

__all__ = ["ITEM_NAMES", "UNFINISHED", "Location", "abandoned", "leftovers", "locate", "staged", "sync"]

UNFINISHED = ".orbax-checkpoint-tmp"
_HERE, _NO_REPLACE = -100, 1  # AT_FDCWD and RENAME_NOREPLACE of Linux
ITEM_NAMES = ("items", "state", "default")


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where a checkpoint's tree lies: `items` is the folder Orbax reads, `relative` its path below the `source` given.

    custom_metadata: what the writer noted beside the tree, e.g. {"scan_layers": True}. step: all that is noted there.
    """

    source: FilePath
    items: FilePath
    relative: FilePath
    custom_metadata: Mapping[str, Any]
    step: Mapping[str, Any]


def locate(source: FilePath) -> Location:
    """Finds the one checkpoint at `source`.

    Raises CheckpointError when there is none, when it is unfinished, and when there are several steps to choose from.
    """
    source = FilePath(source).absolute()
    if not source.is_dir():
        found = "a file" if source.exists() else "nothing"
        raise CheckpointError(f"{source}: expected a checkpoint folder, found {found}: give the step or items folder")
    if UNFINISHED in source.name or (source.name in ITEM_NAMES and UNFINISHED in source.parent.name):
        raise CheckpointError(f"{source}: an unfinished checkpoint (its name holds {UNFINISHED}): give a finished one")
    items = _items_in(source)
    if items is None:
        steps = {int(child.name): _items_in(child) for child in source.iterdir() if child.name.isdecimal()}
        whole = {step: folder for step, folder in sorted(steps.items()) if folder is not None}
        if len(whole) > 1:
            raise CheckpointError(f"{source} holds the steps {list(whole)}, expected one: give {source}/<step>")
        if not whole:
            names = sorted(child.name for child in source.iterdir())[:8]
            raise CheckpointError(
                f"{source}: no Orbax checkpoint (no _METADATA here or below; found {names}): "
                "give a step directory, its items folder, or a manager's root"
            )
        items = next(iter(whole.values()))
    step = read_step(items) or (read_step(items.parent) if items.name in ITEM_NAMES else {})
    noted = dict(step.get("custom_metadata") or {})
    return Location(source=source, items=items, relative=items.relative_to(source), custom_metadata=noted, step=step)


def _items_in(folder: FilePath) -> FilePath | None:
    places = (folder, *(folder / name for name in ITEM_NAMES))
    return next((place for place in places if (place / "_METADATA").is_file()), None)


@contextlib.contextmanager
def staged(target: FilePath) -> Iterator[FilePath]:
    """A folder to write into, renamed to `target` when the block ends well and removed when it does not.

    What writers of the same target left behind that were killed is removed first, where it is sure that they are gone.
    Another writer that was faster keeps the name. Raises CheckpointError when `target` exists or cannot be made.
    """
    target = FilePath(target).absolute()
    if os.path.lexists(target):
        raise CheckpointError(f"{target}: the target exists, expected nothing: give another name or move it away")
    stage = target.with_name(f"{target.name}{UNFINISHED}-{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for name in abandoned(target):
            shutil.rmtree(target.with_name(name), ignore_errors=True)
        yield stage
        _named(stage, target)
    except OSError as error:
        raise CheckpointError(f"{target}: cannot be written ({error}): give a folder that can be") from error
    finally:
        for left in target.parent.glob(glob.escape(stage.name) + "*"):  # Orbax's own unfinished folder included
            shutil.rmtree(left, ignore_errors=True)


def _named(stage: FilePath, target: FilePath) -> None:
    """Gives the finished folder its name, which must be free."""
    try:
        if not _renamed_by_linux(stage, target):
            _renamed_over_a_claim(stage, target)
    except FileExistsError as error:
        raise CheckpointError(
            f"{target}: another writer finished it meanwhile; it was left as it is: compare it, or give another name"
        ) from error
    sync(target.parent)


def _renamed_by_linux(stage: FilePath, target: FilePath) -> bool:
    """Renames unless the target exists, in one step. False where the system or its file system has no such call."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(_HERE, os.fsencode(stage), _HERE, os.fsencode(target), _NO_REPLACE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(stage), None, str(target))


def _renamed_over_a_claim(stage: FilePath, target: FilePath) -> None:
    """The same in two steps: an empty folder claims the name, and is replaced by the finished one."""
    target.mkdir()
    try:
        os.rename(stage, target)
    except OSError:
        with contextlib.suppress(OSError):
            target.rmdir()
        raise


def sync(path: FilePath) -> None:
    """Waits until the file or folder at `path` is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def abandoned(target: FilePath) -> tuple[str, ...]:
    """Those of `leftovers` whose writer was a process of this machine, since it was started, and is no more."""
    mark = re.compile(rf"{re.escape(UNFINISHED)}-{_machine()}-(\d+)-[0-9a-f]{{8}}")
    found = {name: mark.search(name) for name in leftovers(target)}
    return tuple(name for name, match in found.items() if match and not _is_running(int(match[1])))


@functools.cache
def _machine() -> str:
    """What numbers of processes belong to: one start of one machine, and one container on it."""
    words = [platform.node()]
    for file in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        with contextlib.suppress(OSError):
            words.append(os.readlink(file) if file.startswith("/proc/self") else FilePath(file).read_text())
    return f"{zlib.crc32(chr(10).join(words).encode()):08x}"


def _is_running(process: int) -> bool:
    """Whether there is a process of that number, whosever it is."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def leftovers(target: FilePath) -> tuple[str, ...]:
    """Folders beside `target` that a writer of it which was killed left behind."""
    target = FilePath(target).absolute()
    return tuple(sorted(found.name for found in target.parent.glob(f"{glob.escape(target.name)}{UNFINISHED}-*")))
