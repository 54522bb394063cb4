"""`harness export`: the weights of a checkpoint alone, rounded and taken apart for serving."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.checkpoints import asked, moving, write_json
from harness.cli.usage import whole

__all__ = ["add_parser", "command"]


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `export`."""
    parser = subparsers.add_parser("export", help="write a checkpoint's weights alone, at step 0, in bfloat16")
    parser.add_argument("source", metavar="SRC", help="a step directory, its items folder, or a manager's root")
    parser.add_argument("target", metavar="DST", help="a folder that does not exist yet; gets 0/items")
    parser.add_argument("--to", choices=("auto", "linen", "nnx"), default="auto", help="default auto: as the source")
    dtypes = "bfloat16 (default), rounded to the nearest, ties to even; or keep"
    parser.add_argument("--dtype", choices=("bfloat16", "keep"), default="bfloat16", help=dtypes)
    parser.add_argument("--unroll", action="store_true", help="take every stack of layers apart")
    words = "where layers are stacked, if the tree fits several axes (default 1)"
    parser.add_argument("--scan-axis", type=whole, default=1, metavar="N", help=words)
    parser.add_argument("--json", default="", metavar="PATH", help="write what was done here too")


def command(args: argparse.Namespace) -> int:
    """Writes the checkpoint and says what it holds. 0 done; a refusal is UsageError, exit code 2."""
    layout = "unscanned" if args.unroll else "keep"

    def ask(tools):
        wishes = tools.ExportWishes(to=args.to, dtype=args.dtype, layout=layout, scan_axis=args.scan_axis)
        with moving() as watch:
            report = tools.export(Path(args.source), Path(args.target), wishes, watch)
        return tools.export_text(report), tools.as_data(report)

    text, data = asked(args.json, ask)
    print(text)
    write_json(args.json, data)
    return 0
