"""`harness list`: the scenarios, why each exists, how many cases it has, and whether it has a golden."""

from __future__ import annotations

import argparse
import textwrap

from tabulate import tabulate

from harness.cli.catalogue import Catalogue, add_options, named, opened, tickets
from harness.cli.usage import Joined
from harness.golden.document import Document
from harness.golden.store import Missing, Stale, read_document

__all__ = ["add_parser", "command", "golden_state"]


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `list`."""
    parser = subparsers.add_parser("list", help="list scenarios, their cases and goldens")
    help_text = "all (default), names or globs, with commas or again"
    parser.add_argument("--scenario", action=Joined, default="all", metavar="NAME", help=help_text)
    add_options(parser)


def command(args: argparse.Namespace) -> int:
    """Prints one row for each scenario."""
    catalogue = opened(args)
    rows = [_row(catalogue, name) for name in named(catalogue, args.scenario)]
    print(tabulate(rows, ("scenario", "why", "cases", "quick", "golden"), tablefmt="simple"))
    return 0


def golden_state(catalogue: Catalogue, name: str) -> str:
    """What lies on disk. Whether it still belongs to today's cases takes making them: see `harness golden status`."""
    document = read_document(catalogue.goldens, name)
    if isinstance(document, Document):
        return f"{len(document.cases)} accepted"
    return "missing" if isinstance(document, Missing) else "stale" if isinstance(document, Stale) else "tampered"


def _row(catalogue: Catalogue, name: str) -> tuple[str, ...]:
    cases = tickets(catalogue, [name])
    why = textwrap.fill(catalogue.scenarios[name].why, 60)
    quick = sum(ticket.quick for ticket in cases)
    return name, why, str(len(cases)), str(quick), golden_state(catalogue, name)
