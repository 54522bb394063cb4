"""`harness doctor`: versions, devices and settings that change numbers, as a worker would see them."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

from tabulate import tabulate

from harness.doctor import SENTINEL, warnings_of
from harness.runner.surroundings import surroundings

__all__ = ["add_parser", "command"]

SECONDS = 120


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds `doctor`."""
    parser = subparsers.add_parser("doctor", help="show versions, devices and settings that change numbers")
    parser.add_argument("--json", action="store_true", help="print JSON")


def command(args: argparse.Namespace) -> int:
    """Prints facts, then warnings with cures. 0 even with warnings; 4 if JAX cannot be used at all."""
    facts = _examined()
    warnings = warnings_of(facts, os.environ)
    if args.json:
        found = [{"what": warning.what, "cure": warning.cure} for warning in warnings]
        print(json.dumps({"version": 1, "facts": facts, "warnings": found}, indent=2))
    else:
        print(tabulate([(name, _text(value)) for name, value in facts.items()], tablefmt="plain"))
        for warning in warnings:
            print(f"\nwarning: {warning.what}\n   cure: {warning.cure}")
        print(f"\n{len(warnings)} warnings")
    return 4 if "error" in facts else 0


def _examined() -> dict[str, object]:
    """The facts, asked in a process with a worker's environment: a broken device must not take this one with it."""
    stub = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from harness.doctor import tell; tell()"
    line = [sys.executable, "-c", stub, json.dumps(sys.path)]
    try:
        answer = subprocess.run(
            line, capture_output=True, text=True, timeout=SECONDS, env=surroundings(os.environ), check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"JAX did not answer within {SECONDS} s"}
    _, found, text = answer.stdout.partition(SENTINEL)
    if not found:
        last = " | ".join(answer.stderr.strip().splitlines()[-3:])
        return {"error": f"JAX cannot be used (exit status {answer.returncode}): {last}"}
    return json.loads(text)


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
