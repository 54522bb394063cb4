"""`harness prove`: two sides compared as graphs, for all inputs, with nothing run and no array made."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.cli.usage import UsageError, unknown
from harness.report.files import check_target, write
from harness.report.proof import proof_data, proof_text

__all__ = ["add_parser", "command"]


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `prove`."""
    parser = subparsers.add_parser("prove", help="prove two programs equal for all inputs, without running them")
    parser.add_argument(
        "recordings", nargs="*", metavar="RECORDING", help="two files that harness/recorder.py wrote: LEFT RIGHT"
    )
    parser.add_argument("--model", default="", metavar="NAME", help="a model of the pair, at full size, instead")
    parser.add_argument("--pair", default="impl", metavar="SPEC", help="impl (default), or module:ATTRIBUTE of a Pair")
    parser.add_argument("--sides", default="linen:nnx", metavar="LEFT:RIGHT", help="default linen:nnx")
    parser.add_argument("--program", default="train", metavar="NAME", help="which program of the model (train)")
    parser.add_argument("--json", default="", metavar="PATH", help="write the proofs here too")


def command(args: argparse.Namespace) -> int:
    """Prints every proof. 0 all proved; 1 something differs or nothing was compared; 2 bad input."""
    if bool(args.model) == bool(args.recordings) or len(args.recordings) not in (0, 2):
        raise UsageError("name two recordings, `harness prove LEFT RIGHT`, or a model, `harness prove --model NAME`")
    if args.json:
        check_target(Path(args.json))
    # Nothing is run: an accelerator would only be kept from others.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    start = time.perf_counter()
    found = []
    for title, sides, proof in _of_model(args) if args.model else _of_recordings(args):
        print(proof_text(title, sides, proof), flush=True)
        found.append({"title": title, "sides": sides, **proof_data(proof)})
    proved = sum(bool(each["proved"]) for each in found)
    print(f"\n{proved} of {len(found)} proved, in {time.perf_counter() - start:.1f} s.")
    if args.json:
        write(Path(args.json), json.dumps(found, indent=2) + "\n")
    return 0 if found and proved == len(found) else 1


def _of_recordings(args: argparse.Namespace) -> Iterator[tuple[str, tuple[str, str], Any]]:
    from harness.graph.proof import prove
    from harness.graph.recordings import RecordingError, load

    left, right = (Path(each) for each in args.recordings)
    try:
        proof = prove(load(left), load(right))
    except RecordingError as problem:
        raise UsageError(str(problem)) from problem
    except ValueError as problem:
        raise UsageError(f"{left} and {right} cannot be compared: {problem}") from problem
    yield f"{left} against {right}", ("left", "right"), proof


def _of_model(args: argparse.Namespace) -> Iterator[tuple[str, tuple[str, str], Any]]:
    from harness.proving import proofs
    from harness.registry import load_pair

    pair = load_pair(args.pair)
    if args.model not in pair.models:
        raise unknown("model", args.model, pair.models)
    names = args.sides.split(":")
    if len(names) != 2:
        raise UsageError(f"--sides {args.sides!r}: write it as LEFT:RIGHT, for example linen:nnx")
    for name in names:
        if name not in pair.sides:
            raise unknown("side", name, pair.sides)
    settings = pair.models[args.model]()
    sides = pair.sides[names[0]], pair.sides[names[1]]
    for each in proofs(sides, (settings, settings), args.program):
        seconds = " and ".join(f"{seconds:.2f}" for seconds in each.lowering)
        title = f"{args.model}, {each.program}/{each.part} (lowered in {seconds} s)"
        yield title, (names[0], names[1]), each.proof
