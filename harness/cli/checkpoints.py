"""What the commands on checkpoints share: the tools, loaded late, and an error as one sentence."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.cli.usage import UsageError
from harness.registry import load_checkpoint_tools
from harness.report.files import check_target, write

__all__ = ["asked", "moving", "tolerance", "write_json"]


def asked(json_path: str, ask: Callable[[Any], Any]) -> Any:
    """What `ask` makes of the checkpoint tools. Raises UsageError, one line, for an unreadable checkpoint.

    json_path: where the answer will be written, "" for nowhere; refused before anything is read.
    """
    if json_path:
        check_target(Path(json_path))
    # Checkpoints are NumPy arrays: the accelerator's memory belongs to whoever trains on it.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    tools = load_checkpoint_tools()
    try:
        return ask(tools)
    except tools.CheckpointError as problem:
        raise UsageError(" ".join(str(problem).split())) from problem


@contextlib.contextmanager
def moving() -> Iterator[Callable[[int, int], None]]:
    """Gives a callback, told of bytes that were moved and of how many there are in all: a bar, on a terminal only."""
    from tqdm import tqdm

    with tqdm(
        unit="B", unit_scale=True, unit_divisor=1024, leave=False, dynamic_ncols=True, disable=not sys.stderr.isatty()
    ) as bar:

        def watch(count: int, total: int) -> None:
            bar.total = total
            bar.update(count)

        yield watch


def write_json(json_path: str, content: Any) -> None:
    """Writes `content` as JSON to a path that is not ""."""
    if json_path:
        write(Path(json_path), json.dumps(content, indent=2) + "\n")


def tolerance(text: str) -> float:
    """A finite number from 0 on, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        import argparse

        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    return value
