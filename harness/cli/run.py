"""`harness run`: runs scenarios, prints and writes the report, and exits with what it says."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from harness.cache import NOTING, Request, planned, settled, verdict_folder
from harness.cli.catalogue import Catalogue, add_options, named, opened, tickets
from harness.cli.progress import shown, style
from harness.cli.usage import Joined, UsageError, count, positive, unknown
from harness.discover import Ticket
from harness.report import Report, Reuse, check_target, junit, machine, markdown, table, write
from harness.runner import Event, Work, run, sharded
from harness.verdict import Verdict, exit_code

__all__ = ["add_parser", "add_worker_options", "command", "cores", "judged", "limited"]

FILES: tuple[tuple[str, Callable[[Report], str]], ...] = (("markdown", markdown), ("json", machine), ("junit", junit))


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `run`."""
    parser = subparsers.add_parser("run", help="run scenarios and report whether the flag may be flipped")
    help_text = "all (default), names or globs, with commas or again"
    parser.add_argument("--scenario", action=Joined, default="all", metavar="NAME", help=help_text)
    parser.add_argument("--matrix", choices=("quick", "full"), default="quick", help="which cases (default: quick)")
    parser.add_argument("--side", default="", metavar="SIDE", help="only pairs of sides that contain SIDE")
    parser.add_argument("--sides", default="", metavar="LEFT:RIGHT", help="only these pairs of sides, with commas")
    parser.add_argument("--shard", default="1/1", metavar="i/n", help="only every n-th case, from the i-th on")
    known = parser.add_mutually_exclusive_group()
    known.add_argument("--fresh", action="store_true", help="run every case, also those whose verdict is known")
    known.add_argument(
        "--reuse", action="store_true", help="use verdicts that are known in CI too (elsewhere: default)"
    )
    parser.add_argument("--audit-seed", type=int, metavar="S", help="draw the audited cases as the run that said S")
    for name, _ in FILES:
        parser.add_argument(f"--{name}", type=Path, metavar="PATH", help=f"write the report as {name} too")
    add_options(parser)
    add_worker_options(parser)


def add_worker_options(parser: argparse.ArgumentParser) -> None:
    """The options that say how cases are run."""
    parser.add_argument("--jobs", type=count, default=cores(), metavar="N", help="worker processes (default: cores)")
    parser.add_argument("--timeout", type=positive, metavar="S", help="seconds for a case, instead of its scenario's")
    parser.add_argument("--memory", type=positive, metavar="GiB", help="memory for a case, instead of its scenario's")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="a line for each case")


def command(args: argparse.Namespace) -> int:
    """Runs what was asked for. Nothing runs before everything that was typed has been found to make sense."""
    begun = time.time()
    targets = [(getattr(args, name), render) for name, render in FILES if getattr(args, name)]
    for path, _ in targets:
        check_target(path)
    catalogue = opened(args)
    names = named(catalogue, args.scenario)
    chosen = _chosen(args, tickets(catalogue, names))
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    verdicts, reuse = _reusing(args, catalogue, limited(args, chosen), begun)
    report = Report(
        verdicts=tuple(verdicts),
        environment=next((verdict.environment for verdict in verdicts if verdict.environment), None),
        command=shlex.join(["harness", *args.words]),
        started=started,
        seconds=round(time.monotonic() - clock, 3),
        left_out=_left_out(args, catalogue, names, chosen),
        reuse=reuse,
    )
    print(table(report), end="", flush=True)
    for path, render in targets:
        write(path, render(report))
    return exit_code(verdicts)


def judged(
    args: argparse.Namespace, chosen: Sequence[Ticket], work: Work, hear: Callable[[Verdict], None] = lambda _: None
) -> list[Verdict]:
    """Runs tickets under the limits of `add_worker_options`, with progress on standard error.

    hear: gets each verdict when it is there, so that an interrupted run need not lose them.
    """
    with shown(len(chosen), style(args.verbose)) as tell:

        def both(event: Event) -> None:
            if event.verdict:
                hear(event.verdict)
            tell(event)

        return run(limited(args, chosen), args.jobs, work, both)


def limited(args: argparse.Namespace, chosen: Sequence[Ticket]) -> list[Ticket]:
    """Tickets with the limits that were typed, where they were."""
    limits = {"seconds": args.timeout, "gibibytes": args.memory}
    given = {name: value for name, value in limits.items() if value is not None}
    return [replace(ticket, **given) for ticket in chosen]


def _reusing(
    args: argparse.Namespace, catalogue: Catalogue, chosen: Sequence[Ticket], begun: float
) -> tuple[list[Verdict], Reuse]:
    """Runs what has no verdict that still holds, and a random part of what has one.

    What was finished when the run was interrupted is kept for the next one.
    """
    in_ci = os.environ.get("CI", "").lower() in ("true", "1", "yes")
    request = Request(
        how="fresh" if args.fresh or (in_ci and not args.reuse) else "reuse",
        goldens=catalogue.goldens,
        folder=verdict_folder(os.environ),
        begun=begun,
        seed=time.time_ns() % 2**32 if args.audit_seed is None else args.audit_seed,
    )
    plan = planned(chosen, catalogue.scenarios, request)
    with tempfile.TemporaryDirectory(prefix="harness-notes-") as notes:
        work = Work(goldens=str(catalogue.goldens), pending=notes)
        work = replace(work, function=NOTING.get(work.function, work.function))
        heard: list[Verdict] = []
        try:
            found, reuse = settled(plan, judged(args, plan.due, work, heard.append) if plan.due else [], Path(notes))
        except KeyboardInterrupt:
            settled(plan, heard, Path(notes))
            kept = sum(verdict.passed for verdict in heard)
            print(
                f"harness: {kept} of {len(plan.due)} cases had passed: the next run need not repeat them",
                file=sys.stderr,
            )
            raise
    for case, what in reuse.failed.items():
        print(f"harness: AUDIT FAILED: {case}: {what}", file=sys.stderr)
    return found, reuse


def _chosen(args: argparse.Namespace, every: Sequence[Ticket]) -> tuple[Ticket, ...]:
    """The tickets that the filters leave, in order. Raises UsageError if a filter names nothing, or none is left."""
    pairs = list(dict.fromkeys(":".join(ticket.sides) for ticket in every))
    wanted = [pair.strip() for pair in args.sides.split(",")] if args.sides else pairs
    for pair in wanted:
        if pair not in pairs:
            raise unknown("pair of sides", pair, pairs)
    sides = list(dict.fromkeys(side for ticket in every for side in ticket.sides))
    if args.side and args.side not in sides:
        raise unknown("side", args.side, sides)
    left = [
        ticket
        for ticket in every
        if ":".join(ticket.sides) in wanted
        and (not args.side or args.side in ticket.sides)
        and (args.matrix == "full" or ticket.quick)
    ]
    try:
        left_of_shard = sharded(left, args.shard)
    except ValueError as problem:
        raise UsageError(f"--shard: {problem}") from problem
    if not left_of_shard:
        raise UsageError(f"no case is left of {len(every)}: loosen --sides, --side, --matrix or --shard")
    return left_of_shard


def _left_out(
    args: argparse.Namespace, catalogue: Catalogue, names: Sequence[str], chosen: Sequence[Ticket]
) -> tuple[str, ...]:
    """What a reader must know before taking this run's word for the whole."""
    phrases = []
    if len(names) < len(catalogue.scenarios):
        phrases.append(f"{len(catalogue.scenarios) - len(names)} of {len(catalogue.scenarios)} scenarios")
    every = tickets(catalogue, names)
    if len(chosen) < len(every):
        filters = [f"--matrix {args.matrix}"] if args.matrix == "quick" else []
        filters += [f"--side {args.side}"] if args.side else []
        filters += [f"--sides {args.sides}"] if args.sides else []
        filters += [f"--shard {args.shard}"] if args.shard != "1/1" else []
        phrases.append(f"{len(every) - len(chosen)} of {len(every)} cases of the scenarios run ({' '.join(filters)})")
    return tuple(phrases)
