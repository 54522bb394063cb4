"""`harness paxml`: a GPT-3 that Paxml saved as an Orbax checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.checkpoints import asked, moving, write_json
from harness.cli.usage import whole

__all__ = ["add_parser", "command"]


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `paxml`."""
    parser = subparsers.add_parser("paxml", help="translate a GPT-3 checkpoint of Paxml's")
    parser.add_argument("source", metavar="SRC", help="a folder with one zarr array a subfolder, mdl_vars.params.lm...")
    parser.add_argument("target", metavar="DST", help="a folder that does not exist yet; gets <step>/items")
    parser.add_argument("--to", choices=("linen", "nnx"), default="linen", help="default linen")
    qkv = "fused (default): one projection for queries, keys and values; split: one each"
    parser.add_argument("--qkv", choices=("fused", "split"), default="fused", help=qkv)
    parser.add_argument("--no-scan-layers", action="store_true", help="give each layer its own subtree")
    parser.add_argument("--scan-axis", type=whole, default=1, metavar="N", help="where layers are stacked (default 1)")
    out = "arrays without a place in the decoder to leave behind; may be given again"
    parser.add_argument("--leave-out", action="append", default=[], metavar="PATTERN", help=out)
    parser.add_argument("--json", default="", metavar="PATH", help="write what was done here too")


def command(args: argparse.Namespace) -> int:
    """Writes the checkpoint and says what it holds. 0 done; a refusal is UsageError, exit code 2."""

    def ask(tools):
        wishes = tools.PaxmlWishes(
            to=args.to,
            qkv=args.qkv,
            layout="unscanned" if args.no_scan_layers else "scanned",
            scan_axis=args.scan_axis,
            leave_out=tuple(args.leave_out),
        )
        with moving() as watch:
            report = tools.paxml(Path(args.source), Path(args.target), wishes, watch)
        return tools.paxml_text(report), tools.as_data(report)

    text, data = asked(args.json, ask)
    print(text)
    write_json(args.json, data)
    return 0
