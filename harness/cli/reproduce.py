"""`harness reproduce CASE`: one file that shows a divergence without the harness, to go with a bug report."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path

from harness.cli.catalogue import Catalogue, add_options, opened, tickets
from harness.cli.run import judged
from harness.cli.usage import UsageError, positive, unknown
from harness.discover import Ticket
from harness.report.record import reached
from harness.report.words import why
from harness.reproduce import Plan, ReproductionError, read, write
from harness.reproduce.plan import ARRAYS
from harness.reproduce.writing import FILES, SCRIPT
from harness.runner import Work
from harness.runner.stopping import stoppable
from harness.verdict import RUN_ENDINGS, Verdict

__all__ = ["add_parser", "command"]

WORK = "harness.reproduce.work:examined"


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `reproduce`."""
    parser = subparsers.add_parser("reproduce", help="write a file that shows a divergence with JAX and Flax alone")
    parser.add_argument("case", metavar="CASE", help='as `harness run` prints it: "train_step[llama2,linen:nnx]"')
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="default: ./reproduce-<case>")
    parser.add_argument("--anyway", action="store_true", help="write the file even if the case does not diverge")
    parser.add_argument("--timeout", type=positive, metavar="S", help="seconds for each run, instead of its scenario's")
    parser.add_argument("--memory", type=positive, metavar="GiB", help="memory for the case, instead of its scenario's")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="a line when the case was judged")
    parser.set_defaults(jobs=1)
    add_options(parser)


def command(args: argparse.Namespace) -> int:
    """Runs the case, writes what shows it, and runs that once by itself. 0 done, or nothing to show."""
    catalogue = opened(args)
    ticket = _ticket(catalogue, args.case)
    folder = args.output or Path(f"reproduce-{_slug(args.case)}")
    _check_free(folder)
    with tempfile.TemporaryDirectory(prefix="harness-reproduce-") as left:
        verdict = judged(args, [ticket], Work(goldens=str(catalogue.goldens), pending=left, function=WORK))[0]
        plan, arrays = read(Path(left)), Path(left) / ARRAYS
        content = arrays.read_bytes() if plan else b""
    if plan is None or verdict.rung is None:
        return _said(f"harness: {args.case}: {reached(verdict)}. {why(verdict)}", _code(verdict))
    if verdict.first and verdict.first.channel == "graph" and not args.anyway:
        return _said(f"harness: {args.case}: no value differs, so no run can show it. {why(verdict)}", 1)
    if not plan.first and not args.anyway:
        print(
            f"{args.case} does not diverge: {reached(verdict)}. Nothing was written; --anyway writes it all the same."
        )
        return 0
    try:
        with stoppable():
            printed = write(plan, content, folder, args.timeout or ticket.seconds)
    except ReproductionError as problem:
        return _said(f"harness: {args.case}: no file was written: {problem}", 4)
    print(_done(plan, folder, printed))
    return 0


def _done(plan: Plan, folder: Path, printed: str) -> str:
    notes = "".join(f"{note}\n" for note in plan.notes)
    return f"{printed}\n{notes}Written to {folder}, and seen to print this by itself: python {folder / SCRIPT}"


def _ticket(catalogue: Catalogue, case: str) -> Ticket:
    """The ticket of the case called `case`. Raises UsageError with the nearest names."""
    known = {ticket.case: ticket for ticket in tickets(catalogue, tuple(catalogue.scenarios))}
    if case not in known:
        raise unknown("case", case, known)
    if known[case].devices > 1:
        raise UsageError(f"{case} runs on {known[case].devices} fake devices: a file that stands alone has one of them")
    return known[case]


def _slug(case: str) -> str:
    return re.sub(r"[^\w.-]+", "-", case).strip("-")


def _check_free(folder: Path) -> None:
    """Raises UsageError unless `folder` can be made, or holds nothing but an earlier reproduction."""
    if not folder.absolute().parent.is_dir():
        raise UsageError(f"-o {folder}: {folder.absolute().parent} is not a folder: make it first")
    if folder.exists() and not (folder.is_dir() and {path.name for path in folder.iterdir()} <= FILES):
        raise UsageError(f"-o {folder} exists and is no earlier reproduction: name another folder, or remove it")


def _said(sentence: str, code: int) -> int:
    print(sentence, file=sys.stderr)
    return code


def _code(verdict: Verdict) -> int:
    return 4 if verdict.ending in RUN_ENDINGS else 1
