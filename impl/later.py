"""Fields that joined a record after goldens were accepted for it."""

from __future__ import annotations

from dataclasses import field
from typing import Any

__all__ = ["later"]


def later(default: Any) -> Any:
    """A dataclass field with this default that stands in no digest while it has it.

    What names a case is a digest over every field of its settings. A field that is added later would make every golden
    stale, though nothing that it describes was there; `harness.digest` reads this mark.
    """
    return field(default=default, metadata={"later": True})
