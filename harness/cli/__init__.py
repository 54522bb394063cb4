"""The `harness` command. Each command is a module with add_parser(subparsers) and command(args) -> exit code.

Exit codes: 0 all passed, 1 a side moved or something was refused, 2 bad usage or input, 3 golden missing or stale,
4 the run itself failed, 130 interrupted. Nothing here imports JAX before a command needs it.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from harness.cli.usage import UsageError
from harness.discover import DiscoveryError
from harness.pair import NoGraphs, NoStepper
from harness.registry import RegistryError
from harness.report.files import ReportError

__all__ = ["COMMANDS", "main", "obeyed"]

COMMANDS = (
    "harness.cli.run",
    "harness.cli.listing",
    "harness.cli.explain",
    "harness.cli.doctor",
    "harness.cli.reproduce",
    "harness.cli.prove",
    "harness.cli.shardings",
    "harness.cli.golden",
    "harness.cli.selftest",
    "harness.cli.reference",
    "harness.cli.convert",
    "harness.cli.compare",
    "harness.cli.inspect",
    "harness.cli.checksum",
    "harness.cli.entropy",
    "harness.cli.export",
    "harness.cli.paxml",
    "harness.cli.bench",
)
"""Modules of the commands, in the order of the help text. Adding a command is adding a line."""

BAD_USAGE = (UsageError, DiscoveryError, NoGraphs, NoStepper, RegistryError, ReportError)

Command = Callable[[argparse.Namespace], int]


def main() -> int:
    """Runs the process's own command line and returns the exit code."""
    return obeyed(sys.argv[1:])


def obeyed(words: Sequence[str]) -> int:
    """Runs the command line `words` (without the program's name) and returns the exit code. Raises nothing."""
    debug = "--debug" in words
    parser, commands = _parser(words)
    try:
        args = parser.parse_args([word for word in words if word != "--debug"])
        args.words = tuple(words)
        return commands[args.chosen](args)
    except SystemExit as left:  # argparse has printed its sentence
        return left.code if isinstance(left.code, int) else 2
    except BAD_USAGE as problem:
        return _said(f"harness: {problem}", 2, debug=debug)
    except KeyboardInterrupt:
        return _said("harness: interrupted; every worker was stopped", 130, debug=False)
    except BrokenPipeError:
        # The reader (head, less) has gone. Python would complain once more when it flushes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as problem:
        hint = "" if debug else " (add --debug for the traceback)"
        return _said(f"harness: failed: {type(problem).__name__}: {problem}{hint}", 4, debug=debug)


def _parser(words: Sequence[str]) -> tuple[argparse.ArgumentParser, dict[str, Command]]:
    """A parser of all commands; where the first word is the module of one, that one alone is imported."""
    parser = argparse.ArgumentParser(
        prog="harness",
        description="Runs a JAX model down two paths, compares everything, and says whether the flag may be flipped.",
        epilog="Every command takes --debug, which prints the traceback of an error.",
    )
    subparsers = parser.add_subparsers(dest="chosen", required=True, metavar="COMMAND")
    commands: dict[str, Command] = {}
    chosen = [name for name in COMMANDS if name.rpartition(".")[2] in words[:1]]
    for name in chosen or COMMANDS:
        module = importlib.import_module(name)
        known = set(subparsers.choices)
        module.add_parser(subparsers)
        commands |= dict.fromkeys(set(subparsers.choices) - known, module.command)
    return parser, commands


def _said(sentence: str, code: int, *, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(sentence, file=sys.stderr)
    return code
