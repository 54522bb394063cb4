"""`harness compare`: two checkpoints, leaf by leaf, whatever their dialects and layer layouts."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.checkpoints import asked, moving, tolerance, write_json
from harness.cli.usage import UsageError

__all__ = ["add_parser", "command"]


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `compare`."""
    parser = subparsers.add_parser("compare", help="compare two checkpoints of any dialect and layout")
    parser.add_argument("left", metavar="A")
    parser.add_argument("right", metavar="B")
    parser.add_argument("--values", action="store_true", help="compare the arrays too, not only names, shapes, dtypes")
    parser.add_argument("--rtol", type=tolerance, default=0.0, metavar="X", help="relative tolerance, default 0: exact")
    parser.add_argument("--atol", type=tolerance, default=0.0, metavar="X", help="absolute tolerance, default 0: exact")
    words = "let pass what is at most N units in the last place of its dtype apart, default 0: exact"
    parser.add_argument("--ulp", type=_steps, default=0, metavar="N", help=words)
    parser.add_argument("--only", choices=("params", "opt", "all"), default="all", help="which part (default all)")
    parser.add_argument("--json", default="", metavar="PATH", help="write the comparison here too")


def command(args: argparse.Namespace) -> int:
    """Prints every difference. 0 equal, 1 different or nothing in common, 2 unreadable."""
    if (args.rtol or args.atol or args.ulp) and not args.values:
        raise UsageError("--rtol, --atol and --ulp compare values: add --values")
    values = "values" if args.values else "structure"

    def ask(tools):
        tolerance = tools.Tolerance(rtol=args.rtol, atol=args.atol, ulp=args.ulp)
        terms = tools.Terms(values=values, tolerance=tolerance, only=args.only)
        with moving() as watch:
            record = tools.compare_under(Path(args.left), Path(args.right), terms, watch)
        return record.equal, tools.comparison_text(record), tools.as_data(record)

    equal, text, data = asked(args.json, ask)
    print(text)
    write_json(args.json, data)
    return 0 if equal else 1


def _steps(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)
