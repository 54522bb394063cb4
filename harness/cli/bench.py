"""`harness bench`: what the second side costs against the first, and what the harness costs, as ratios in one run."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from tabulate import tabulate

from harness.bench.overhead import bench_overhead
from harness.bench.pairs import Ratio
from harness.bench.steps import StepBench, bench_steps
from harness.cli.catalogue import add_options, named, opened, tickets
from harness.cli.usage import UsageError, count
from harness.prepare import prepare
from harness.registry import load_pair
from harness.report import check_target, write

__all__ = ["add_parser", "command"]


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `bench`."""
    parser = subparsers.add_parser("bench", help="measure step time, dispatch, memory and the harness's own cost")
    parser.add_argument("--scenario", default="train_step", metavar="NAME", help="whose quick cases are measured")
    parser.add_argument("--rounds", type=count, default=3, metavar="N", help="rounds of the harness's own cost")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures as JSON too")
    add_options(parser)


def command(args: argparse.Namespace) -> int:
    """Measures the quick cases of one scenario between their native sides, and the overhead on the first of them."""
    if args.json:
        check_target(args.json)
    catalogue = opened(args)
    every = tickets(catalogue, named(catalogue, args.scenario))
    native = [ticket for ticket in every if ticket.quick and ticket.sides == every[0].sides]
    if not native:
        raise UsageError(f"scenario {args.scenario!r} has no quick case to measure")
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
