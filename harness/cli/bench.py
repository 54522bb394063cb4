"""`harness bench`: what the second side costs against the first, and what the harness costs, as ratios in one run."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from harness.bench.checkpoint import CheckpointBench, bench_checkpoint
from harness.bench.overhead import bench_overhead
from harness.bench.pairs import Ratio
from harness.bench.runs import RunBench, bench_runs
from harness.bench.steps import StepBench, bench_steps
from harness.cli.catalogue import Catalogue, add_options, named, opened, tickets
from harness.cli.run import cores
from harness.cli.usage import UsageError, count
from harness.prepare import prepare
from harness.registry import load_pair
from harness.report import check_target, write

__all__ = ["add_parser", "command"]

DEFAULTS = {"steps": "train_step", "run": "all"}
"""What is measured -> the scenarios that it is measured on."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `bench`."""
    parser = subparsers.add_parser("bench", help="measure step time, dispatch, memory and the harness's own cost")
    what = "steps (default): either side and the harness over bare programs; run: the command `harness run` itself; "
    what += "checkpoint: converting and comparing against copying and reading the files"
    parser.add_argument("what", nargs="?", choices=(*DEFAULTS, "checkpoint"), default="steps", help=what)
    parser.add_argument("--scenario", default="", metavar="NAME", help="whose quick cases (train_step; of `run`: all)")
    parser.add_argument("--jobs", type=count, default=cores(), metavar="N", help="worker processes of `run`")
    parser.add_argument("--rounds", type=count, default=3, metavar="N", help="rounds of the harness's own cost")
    parser.add_argument("--gib", type=_size, default=2.0, metavar="X", help="GiB of the checkpoint (default 2)")
    parser.add_argument("--folder", default="", metavar="PATH", help="where to make it (default: temporary folder)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures as JSON too")
    add_options(parser)


def command(args: argparse.Namespace) -> int:
    """Measures what was asked for. Nothing is measured before what was typed has been found to make sense."""
    if args.json:
        check_target(args.json)
    if args.what == "checkpoint":
        return _checkpoints(args)
    choice = args.scenario or DEFAULTS[args.what]
    catalogue = opened(args)
    names = named(catalogue, choice)
    return _runs(args, choice) if args.what == "run" else _steps(args, catalogue, names)


def _runs(args: argparse.Namespace, choice: str) -> int:
    """The quick cases of some scenarios, by the command itself: cold, warm, and with every verdict known."""
    places = [word for name in ("pair", "scenarios", "goldens") for word in _option(name, getattr(args, name))]
    found = bench_runs(["--scenario", choice, "--jobs", str(args.jobs), *places])
    print(_runs_text(found))
    if args.json:
        write(args.json, json.dumps({"version": 1, "run": dataclasses.asdict(found)}, indent=1) + "\n")
    return 0


def _checkpoints(args: argparse.Namespace) -> int:
    """Checkpoint tools against copying and reading files, on checkpoints that are made for it."""
    found = bench_checkpoint(args.gib, args.rounds, args.folder)
    print(_checkpoints_text(found))
    if args.json:
        write(args.json, json.dumps({"version": 1, "checkpoint": dataclasses.asdict(found)}, indent=1) + "\n")
    return 0


def _checkpoints_text(found: CheckpointBench) -> str:
    rows = [
        (
            row.work,
            f"{row.bytes / 2**30:.2f}",
            f"{row.inside.a:.3f}",
            row.against,
            f"{row.inside.b:.3f}",
            _ratio(row.inside),
            f"{row.speed.median:.2f}",
            f"{row.peak / 1e6:.0f}",
            f"{row.peak_against / 1e6:.0f}" if row.peak_against else "-",
        )
        for row in found.rows
    ]
    head = ("work", "GiB", "s", "against", "its s", "times as fast", "with start-up", "peak MB", "its")
    made = f"{found.leaves} leaves of {found.gib:g} GiB, {found.many} small leaves, {found.rounds} rounds"
    table = tabulate(rows, head, disable_numparse=True)
    return f"{made}: medians, start-up left out (least to largest)\n\n{table}"


def _size(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1024:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of GiB above 0 and below 1024")
    return value


def _option(name: str, value: str) -> list[str]:
    return [f"--{name}", value] if value else []


def _runs_text(found: RunBench) -> str:
    rows = [
        (each.scenario, each.cases, f"{each.running:.1f}", f"{each.proving:.1f}", f"{each.proving / each.running:.2f}")
        for each in found.costs
    ]
    whole = [f"{name} {seconds:.1f} s (exit code {found.codes[name]})" for name, seconds in found.seconds.items()]
    return (
        f"harness run {' '.join(found.words)}: {', '.join(whole)}\n"
        f"unchanged: {found.reused} of {found.cases} verdicts reused, {found.audited} audited\n\n"
        + tabulate(rows, ("scenario", "cases", "running s", "proving s", "ratio"), disable_numparse=True)
    )


def _steps(args: argparse.Namespace, catalogue: Catalogue, names: Sequence[str]) -> int:
    """The quick cases of one scenario between their native sides, and the overhead on the first of them."""
    every = tickets(catalogue, names)
    native = [ticket for ticket in every if ticket.quick and ticket.sides == every[0].sides]
    if not native:
        raise UsageError(f"scenario {', '.join(names)} has no quick case to measure")
    steps = []
    for ticket in native:
        pair = load_pair(ticket.pair)
        steps.append(bench_steps(pair, prepare(pair, catalogue.scenarios[ticket.scenario], ticket)))
        print(f"measured {ticket.case}", flush=True)
    overhead = bench_overhead(native[0], catalogue.goldens, args.rounds)
    print(_text(steps, overhead, native[0].case))
    if args.json:
        figures = {"version": 1, "steps": [dataclasses.asdict(step) for step in steps]}
        write(args.json, json.dumps({**figures, "overhead": dataclasses.asdict(overhead)}, indent=1) + "\n")
    return 0


def _text(steps: list[StepBench], overhead: Ratio, case: str) -> str:
    rows = [(step.case, _ratio(step.step), _ratio(step.dispatch), _ratio(step.noise), *_bytes(step)) for step in steps]
    head = ("case", "step time", "dispatch", "noise (same side twice)", "temp bytes", "output bytes")
    sides = steps[0].sides
    return (
        f"{sides[1]} over {sides[0]}: median of paired ratios (least to largest)\n\n"
        + tabulate(rows, head)
        + f"\n\nharness over bare programs, cold, {case}: {_ratio(overhead)}, {overhead.a:.2f} s bare\n"
    )


def _ratio(value: Ratio) -> str:
    return f"{value.median:.2f} ({value.low:.2f} to {value.high:.2f})"


def _bytes(step: StepBench) -> tuple[str, str]:
    first, second = zip(*(step.bytes[size] for size in ("temp", "output")), strict=True)
    return tuple(f"{_over(a, b)} ({a} to {b})" for a, b in zip(first, second, strict=True))  # type: ignore[return-value]


def _over(a: int, b: int) -> str:
    return f"{b / a:.3f}" if a else ("1.000" if a == b else "more than none")
