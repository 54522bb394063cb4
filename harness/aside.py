"""Writing a file so that no reader sees half of it."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["write"]


def write(path: Path, content: bytes) -> None:
    """Writes `content` aside and renames it to `path`: a reader sees the old file or the new one."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
