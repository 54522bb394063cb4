"""`harness shardings`: where every leaf of a model's train state lives on a mesh, for two sides, without devices."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from harness.cli.usage import UsageError, unknown
from harness.pair import NoShardings, Side
from harness.placement import Placement, placed
from harness.registry import load_pair
from harness.report.files import check_target, write
from harness.report.shardings import shardings_data, shardings_text

__all__ = ["add_parser", "command"]


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `shardings`."""
    parser = subparsers.add_parser("shardings", help="show where each leaf of a train state lives on a mesh")
    parser.add_argument("--model", required=True, metavar="NAME", help="a model of the pair, at full size")
    parser.add_argument("--mesh", required=True, metavar="AXIS=N,...", help="for example fsdp=2,tensor=2,expert=2")
    parser.add_argument("--rules", default="", metavar="FILE", help="logical rules, MaxText's YAML (default: its own)")
    parser.add_argument("--settings", default="{}", metavar="JSON", help="laid over the model's settings")
    parser.add_argument("--pair", default="impl", metavar="SPEC", help="impl (default), or module:ATTRIBUTE of a Pair")
    parser.add_argument("--sides", default="linen:nnx", metavar="LEFT:RIGHT", help="default linen:nnx")
    parser.add_argument("--json", default="", metavar="PATH", help="write the table here too")


def command(args: argparse.Namespace) -> int:
    """Prints the table. 0 placed alike; 1 something is placed differently or nothing is there; 2 bad input."""
    if args.json:
        check_target(Path(args.json))
    # Nothing is run: an accelerator would only be kept from others.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    mesh, pair, names = _mesh(args.mesh), load_pair(args.pair), args.sides.split(":")
    if len(names) != 2:
        raise UsageError(f"--sides {args.sides!r}: write it as LEFT:RIGHT, for example linen:nnx")
    for name in names:
        if name not in pair.sides:
            raise unknown("side", name, pair.sides)
    if args.model not in pair.models:
        raise unknown("model", args.model, pair.models)
    settings = {**pair.models[args.model](), **_settings(args.settings)}
    left, right = (_asked(pair.sides[name], settings, mesh, args.rules) for name in names)
    rows, sides = placed(left, right, mesh), (names[0], names[1])
    print(shardings_text(rows, sides, mesh), end="")
    if args.json:
        write(Path(args.json), json.dumps(shardings_data(rows, sides, mesh), indent=2) + "\n")
    return 1 if not rows or any(row.different for row in rows) else 0


def _asked(side: Side, settings: dict[str, Any], mesh: dict[str, int], rules: str) -> dict[str, Placement]:
    try:
        return dict(side.shardings(settings, mesh, rules))
    except NoShardings as problem:
        raise UsageError(f"{side.name}: {' '.join(str(problem).split())}") from problem


def _mesh(text: str) -> dict[str, int]:
    """ "fsdp=2,tensor=4" -> {"fsdp": 2, "tensor": 4}. Raises UsageError."""
    found: dict[str, int] = {}
    for part in text.split(","):
        axis, _, size = part.partition("=")
        if not axis.strip() or not size.strip().isdecimal() or axis.strip() in found:
            raise UsageError(f"--mesh {text!r}: {part!r} is not AXIS=N, each axis once; write fsdp=2,tensor=2,expert=2")
        found[axis.strip()] = int(size)
    return found


def _settings(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as problem:
        raise UsageError(f"--settings {text!r} is not JSON: {problem}") from problem
    if not isinstance(found, dict):
        raise UsageError(f"--settings {text!r} is a {type(found).__name__}: give an object of settings")
    return found
