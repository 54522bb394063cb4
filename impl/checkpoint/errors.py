"""The one error that reading, converting and comparing checkpoints raises."""

from __future__ import annotations

__all__ = ["CheckpointError"]


class CheckpointError(ValueError):
    """A checkpoint that cannot be used as asked. The message names the thing, both values and the cure."""
