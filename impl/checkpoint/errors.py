"""The one error that reading, converting and comparing checkpoints raises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["CheckpointError", "check_choices"]


class CheckpointError(ValueError):
    """A checkpoint that cannot be used as asked. The message names the thing, both values and the cure."""


def check_choices(wishes: object, choices: Mapping[str, Sequence[str]]) -> None:
    """Raises CheckpointError for a field of `wishes` that is none of its choices."""
    for name, known in choices.items():
        given = getattr(wishes, name)
        if given not in known:
            raise CheckpointError(f"{name}={given!r}, expected one of {list(known)}: choose one of these")
