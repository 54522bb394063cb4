"""`harness entropy`: a checkpoint whose moments are made of its weights, for tests that must not find zeros."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.checkpoints import asked, moving, write_json

__all__ = ["add_parser", "command"]


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `entropy`."""
    parser = subparsers.add_parser("entropy", help="write a checkpoint with mu = cos(1000 p), nu = sin(1000 p)")
    parser.add_argument("source", metavar="SRC", help="a train state with mu and nu, of any dialect and layout")
    parser.add_argument("target", metavar="DST", help="a folder that does not exist yet")
    parser.add_argument("--json", default="", metavar="PATH", help="write what was done here too")


def command(args: argparse.Namespace) -> int:
    """Writes the checkpoint and says what was made. 0 done; a refusal is UsageError, exit code 2."""

    def ask(tools):
        with moving() as watch:
            report = tools.entropy(Path(args.source), Path(args.target), watch)
        return tools.entropy_text(report), tools.as_data(report)

    text, data = asked(args.json, ask)
    print(text)
    write_json(args.json, data)
    return 0
