"""`harness selftest`: injects every known mistake on purpose, and counts what the harness catches and places.

With --mutate, the mistakes are random mutations of one side's source instead.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from harness.cli.progress import shown, style
from harness.cli.run import cores
from harness.cli.usage import UsageError, count, unknown
from harness.faults import Catalogue, CatalogueError
from harness.faults.campaign import as_json, failed, planned, sampled, table, tried_out
from harness.faults.trial import Trial
from harness.mutation import MutationError, campaign, report, sampling
from harness.mutation.subject import subject
from harness.report import check_target, write

__all__ = ["add_parser", "command"]

OWN = "harness.faults.catalogue:CATALOGUE"
MUTANTS = 20


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `selftest`."""
    parser = subparsers.add_parser("selftest", help="inject known mistakes and count how many are caught and placed")
    parser.add_argument("--catalogue", default=OWN, metavar="SPEC", help="module:ATTRIBUTE of a Catalogue")
    parser.add_argument("--only", default="", metavar="ID,...", help="only these faults and variations")
    parser.add_argument("--sample", type=count, metavar="N", help="only N faults and half as many variations")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="what --sample or --mutate draws (default: 0)")
    parser.add_argument("--mutate", type=Path, metavar="FOLDER", help="random mutations of a side's folder instead")
    parser.add_argument("--count", type=count, metavar="N", help=f"how many --mutate makes (default: {MUTANTS})")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the outcomes as JSON too")
    parser.add_argument("--jobs", type=count, default=cores(), metavar="N", help="worker processes (default: cores)")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="a line for each trial")


def command(args: argparse.Namespace) -> int:
    """0 if every fault was caught and placed and no variation raised an alarm, else 1; 2 for a stale catalogue.

    With --mutate: 0 if no mutant survived that changed a graph, else 1.
    """
    if args.json:
        check_target(args.json)
    if args.mutate and (args.only or args.sample):
        raise UsageError("--mutate draws mutants, not faults: leave out --only and --sample, and add --count")
    if args.count and not args.mutate:
        raise UsageError("--count says how many mutants --mutate makes: name a folder with --mutate, or use --sample")
    if args.mutate:
        return _mutated(args)
    try:
        catalogue = _loaded(args.catalogue)
        chosen = _chosen(planned(catalogue), args)
    except CatalogueError as problem:
        raise UsageError(str(problem)) from problem
    with shown(len(chosen), style(args.verbose)) as tell:
        outcomes = tried_out(chosen, catalogue, args.jobs, tell)
    print(table(outcomes), end="", flush=True)
    if args.json:
        write(args.json, json.dumps(as_json(outcomes), indent=2) + "\n")
    return 1 if any(map(failed, outcomes)) else 0


def _mutated(args: argparse.Namespace) -> int:
    """Random mutants of one side: drawn, tried out and reported."""
    try:
        what = subject(_loaded(args.catalogue), args.mutate)
        possible = sampling.mutants(what.root, what.folder)
        if not possible:
            raise MutationError(f"{args.mutate} holds no Python that could be mutated: name the folder of one side")
        chosen = sampling.sampled(possible, args.count or MUTANTS, args.seed)
        outcomes = campaign.tried_out(chosen, what, args.jobs, partial(shown, how=style(args.verbose)))
    except (CatalogueError, MutationError) as problem:
        raise UsageError(str(problem)) from problem
    print(report.table(outcomes, len(possible)), end="", flush=True)
    if args.json:
        folder = what.folder.relative_to(what.root).as_posix()
        write(args.json, json.dumps(report.as_json(outcomes, folder, args.seed, len(possible)), indent=2) + "\n")
    return 1 if report.survivors(outcomes) else 0


def _loaded(spec: str) -> Catalogue:
    """The catalogue `spec`, "module:ATTRIBUTE", with the current folder importable. Raises UsageError."""
    module, _, attribute = spec.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        catalogue = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as problem:
        if isinstance(problem, CatalogueError):
            raise
        raise UsageError(f"--catalogue {spec!r} cannot be loaded: {problem}: write it as module:ATTRIBUTE") from problem
    if not isinstance(catalogue, Catalogue):
        raise UsageError(f"--catalogue {spec!r} is a {type(catalogue).__name__}, not a harness.faults.Catalogue")
    return catalogue


def _chosen(plan: Sequence[Trial], args: argparse.Namespace) -> Sequence[Trial]:
    """The trials that --only and --sample leave. Raises UsageError with the nearest id for one that does not exist."""
    ids = list(dict.fromkeys(trial.entry.id for trial in plan))
    wanted = [word.strip() for word in args.only.split(",")] if args.only else ids
    for word in wanted:
        if word not in ids:
            raise unknown("fault or variation", word, ids)
    left = [trial for trial in plan if trial.entry.id in wanted]
    return sampled(left, args.sample, args.seed) if args.sample else left
