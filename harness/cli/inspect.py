"""`harness inspect`: what a checkpoint is, from its metadata alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.checkpoints import asked, write_json

__all__ = ["add_parser", "command"]


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `inspect`."""
    parser = subparsers.add_parser("inspect", help="show a checkpoint's dialect, layout and leaves")
    parser.add_argument("checkpoint", metavar="CKPT")
    parser.add_argument("--json", default="", metavar="PATH", help="write the description here too")


def command(args: argparse.Namespace) -> int:
    """Prints the description. 0 done; an unreadable checkpoint is UsageError, exit code 2."""

    def ask(tools):
        record = tools.inspect(Path(args.checkpoint))
        return tools.inspection_text(record), tools.as_data(record)

    text, data = asked(args.json, ask)
    print(text)
    write_json(args.json, data)
    return 0
