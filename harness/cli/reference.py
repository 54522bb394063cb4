"""`harness reference`: both sides held against numbers that another code base computed."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.checkpoints import write_json
from harness.cli.usage import UsageError
from harness.registry import load_reference
from harness.report.files import check_target

__all__ = ["add_parser", "command"]


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `reference`."""
    parser = subparsers.add_parser("reference", help="compare both sides with a folder of MaxText's numbers")
    parser.add_argument("folder", metavar="DIR", help="holds config.json, inputs, logits, loss, grads and checkpoint/")
    parser.add_argument("--sides", default="linen,nnx", metavar="NAMES", help="sides to run, with commas")
    parser.add_argument("--json", default="", metavar="PATH", help="write the report here too")


def command(args: argparse.Namespace) -> int:
    """Prints a row for each variant and side. 0 passed, 1 beyond a bound, 2 a folder or model that cannot be used."""
    if args.json:
        check_target(Path(args.json))
    sides = tuple(dict.fromkeys(name.strip() for name in args.sides.split(",") if name.strip()))
    reference = load_reference()
    try:
        report = reference.compare_reference(Path(args.folder), sides)
    except reference.ReferenceFolderError as problem:
        raise UsageError(" ".join(str(problem).split())) from problem
    print(reference.reference_text(report))
    write_json(args.json, reference.reference_data(report))
    return 0 if report.passed else 1
