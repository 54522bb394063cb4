"""`harness checksum`: a manifest of digests beside a checkpoint's arrays, and a checkpoint held against it."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.checkpoints import asked, moving, write_json

__all__ = ["add_parser", "command"]


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `checksum`."""
    parser = subparsers.add_parser("checksum", help="write digests beside a checkpoint's arrays, or check them")
    parser.add_argument("checkpoint", metavar="CKPT")
    parser.add_argument("--check", action="store_true", help="hold the checkpoint against the digests it has")
    parser.add_argument("--json", default="", metavar="PATH", help="write what was found, or the digests, here too")


def command(args: argparse.Namespace) -> int:
    """Prints what was written, or every finding. 0 done or as recorded, 1 different, 2 unreadable."""

    def ask(tools):
        source = Path(args.checkpoint)
        with moving() as watch:
            if args.check:
                record = tools.check(source, watch)
                return bool(record.findings), tools.checksum_text(record), tools.as_data(record)
            path, manifest = tools.checksum(source, watch)
        return False, tools.sealed_text(path, manifest), tools.as_data(manifest)

    different, text, data = asked(args.json, ask)
    print(text)
    write_json(args.json, data)
    return int(different)
