"""`harness golden status|diff|regenerate|accept`: the one way in which a golden changes."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tabulate import tabulate

from harness.cli.catalogue import Catalogue, add_options, named, opened, tickets
from harness.cli.regeneration import current, ready, refusals
from harness.cli.run import add_worker_options, judged
from harness.cli.usage import Joined
from harness.golden import GoldenError, accept, diff, status
from harness.golden.acceptance import PENDING
from harness.runner import Work

__all__ = ["add_parser", "command"]

HELP = {
    "status": "how the goldens stand to the scenarios of today",
    "diff": "what accepting would change",
    "regenerate": "run the full matrix and write candidates; refused while parity fails",
    "accept": "move the candidates that were read over the goldens",
}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `golden` and its four verbs."""
    parser = subparsers.add_parser("golden", help="show, regenerate and accept goldens")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, text in HELP.items():
        verb_parser = verbs.add_parser(verb, help=text)
        due = verb in ("regenerate", "accept")
        meaning = "names or globs, with commas or again, or all"
        verb_parser.add_argument("--scenario", action=Joined, default="all", required=due, metavar="NAME", help=meaning)
        add_options(verb_parser)
        if verb == "regenerate":
            add_worker_options(verb_parser)


def command(args: argparse.Namespace) -> int:
    """Does what the verb says. 0 done, 1 refused, 3 (status) a golden is not fresh."""
    # Goldens are made of NumPy arrays: the parent, which only draws weights, must not take the accelerator's memory.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    catalogue = opened(args)
    names = named(catalogue, args.scenario)
    verbs = {"status": _status, "diff": _diff, "accept": _accept}
    try:
        if args.verb == "regenerate":
            return _regenerate(args, catalogue, names)
        return verbs[args.verb](catalogue, names)
    except GoldenError as problem:
        print(f"harness: {problem}", file=sys.stderr)
        return 1


def _status(catalogue: Catalogue, names: tuple[str, ...]) -> int:
    found = status(catalogue.goldens, {name: current(catalogue, name) for name in names})
    every = len(names) == len(catalogue.scenarios)
    # Seen from a part of the scenarios, the goldens of the others look like orphans.
    rows = [row for row in found if every or row.scenario in names]
    print(tabulate([(row.scenario, row.state, row.detail) for row in rows], ("scenario", "golden", ""), "simple"))
    return 0 if all(row.state in ("fresh", "pending") for row in rows) else 3


def _diff(catalogue: Catalogue, names: tuple[str, ...]) -> int:
    for name in names:
        print("\n".join(diff(catalogue.goldens, name)))
    return 0


def _accept(catalogue: Catalogue, names: tuple[str, ...]) -> int:
    """All, or only what is pending: "all" means every candidate, a name that has none is refused."""
    waiting = [name for name in names if (catalogue.goldens / PENDING / f"{name}.json").exists()]
    for name in names if len(names) == 1 or not waiting else waiting:
        header, body = accept(catalogue.goldens, name)
        print(f"accepted {name}: {header}, {body.name}")
    return 0


def _regenerate(args: argparse.Namespace, catalogue: Catalogue, names: tuple[str, ...]) -> int:
    """Runs everything, then writes the candidates of those scenarios whose parity holds everywhere."""
    with tempfile.TemporaryDirectory(prefix="harness-golden-") as folder:
        work = Work(goldens=str(catalogue.goldens), pending=folder)
        verdicts = judged(args, tickets(catalogue, names), work)
        refused = 0
        for name in names:
            ours = [verdict for verdict in verdicts if verdict.scenario == name]
            if reasons := refusals(ours):
                refused += 1
                # A candidate of an earlier day must not be accepted after this.
                for suffix in ("json", "npz"):
                    (catalogue.goldens / PENDING / f"{name}.{suffix}").unlink(missing_ok=True)
                print("\n  ".join([f"{name}: refused, because parity fails:", *reasons]), file=sys.stderr)
                continue
            header = ready(catalogue, name, Path(folder), ours)
            print(f"{name}: {header} is pending; read `harness golden diff --scenario {name}`, then accept it")
    return 1 if refused else 0
