"""The scenarios that a command speaks about, where their goldens are, and which tickets the user asked for."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from harness.cli.usage import UsageError, unknown
from harness.discover import Ticket, discover, expand
from harness.registry import load_pair
from harness.scenario import Scenario

__all__ = ["Catalogue", "add_options", "named", "opened", "tickets"]

ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds the packages `harness` and `scenarios`, and in a checkout the goldens."""


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """name -> scenario; the folder they come from ("" for a pair's own); the pair ("" for each scenario's own)."""

    scenarios: Mapping[str, Scenario]
    folder: str
    pair: str
    goldens: Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that say where scenarios, pair and goldens are."""
    parser.add_argument("--pair", default="impl", metavar="SPEC", help="impl (default), or module:ATTRIBUTE of a Pair")
    parser.add_argument("--scenarios", default="", metavar="DIR", help="folder of scenario files")
    parser.add_argument("--goldens", default="", metavar="DIR", help="folder of goldens")


def opened(args: argparse.Namespace) -> Catalogue:
    """The catalogue of `add_options`. Raises DiscoveryError, RegistryError or UsageError (no scenario at all)."""
    own, beneath = args.pair == "impl", ""
    pair = "" if own else args.pair
    if args.scenarios or own:
        folder = str((Path(args.scenarios) if args.scenarios else ROOT / "scenarios").resolve())
        scenarios = discover(Path(folder))
        lack = f"{folder} holds no scenario file: name another folder with --scenarios"
    else:
        loaded = load_pair(pair)
        folder, scenarios, beneath = "", dict(loaded.scenarios), loaded.name
        lack = f"the pair {pair} brings no scenarios of its own: name a folder with --scenarios"
    if not scenarios:
        raise UsageError(lack)
    goldens = Path(args.goldens) if args.goldens else (ROOT if own else Path.cwd()) / "goldens" / beneath
    return Catalogue(scenarios=scenarios, folder=folder, pair=pair, goldens=goldens.absolute())


def named(catalogue: Catalogue, choice: str) -> tuple[str, ...]:
    """The scenarios that "all", a name, a glob or a comma list of these means, in the catalogue's order.

    Raises UsageError with the nearest names for one that means nothing.
    """
    wanted: set[str] = set()
    for word in choice.split(","):
        pattern = "*" if word == "all" else word.strip()
        found = [name for name in catalogue.scenarios if fnmatchcase(name, pattern)]
        if not found:
            raise unknown("scenario", pattern, catalogue.scenarios)
        wanted.update(found)
    return tuple(name for name in catalogue.scenarios if name in wanted)


def tickets(catalogue: Catalogue, names: Sequence[str]) -> tuple[Ticket, ...]:
    """Every ticket of these scenarios."""
    return tuple(
        ticket
        for name in names
        for ticket in expand(name, catalogue.scenarios[name], pair=catalogue.pair, folder=catalogue.folder)
    )
