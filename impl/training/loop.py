"""A small training loop over either side's Trainer: steps, checkpoints, and taking up the newest checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from impl.checkpoint import load_tree, save_tree

__all__ = ["Checkpoints", "Trains", "fit", "newest"]


_Fed = TypeVar("_Fed")
"""The kind of batch that a Trainer takes."""

_Taken = TypeVar("_Taken", contravariant=True)


class Trains(Protocol[_Taken]):
    """What the loop asks of a Trainer."""

    @property
    def steps_done(self) -> int:
        """Updates made so far."""

    def step(self, batch: _Taken) -> Mapping[str, np.ndarray]:
        """One update."""

    def tree(self) -> Mapping[str, Any]:
        """What is saved."""

    def restore(self, tree: Mapping[str, Any]) -> None:
        """Take up what was saved."""


@dataclass(frozen=True)
class Checkpoints:
    """Where checkpoints go, one folder a step, and after how many steps."""

    folder: Path
    every: int


def newest(folder: Path) -> int:
    """The last step that has a checkpoint in `folder`, -1 if none has. Unfinished ones have other names."""
    steps = [int(path.name) for path in folder.glob("*") if path.name.isdigit()] if folder.is_dir() else []
    return max(steps, default=-1)


def fit(
    trainer: Trains[_Fed], batch: Callable[[int], _Fed], steps: int, checkpoints: Checkpoints
) -> dict[int, Mapping[str, np.ndarray]]:
    """Train until `steps` updates are done and return the metrics of each update made here, by its index.

    The newest checkpoint, if there is one, is taken up first; a checkpoint is written after every `every` updates and
    after the last.
    """
    last = newest(checkpoints.folder)
    if last >= 0:
        trainer.restore(load_tree(checkpoints.folder / str(last)))
    metrics = {}
    for step in range(trainer.steps_done, steps):
        metrics[step] = trainer.step(batch(step))
        done = step + 1
        if done == steps or done % checkpoints.every == 0:
            save_tree(checkpoints.folder / str(done), trainer.tree())
    return metrics
