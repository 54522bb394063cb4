"""What is mutated: one side's folder, the quick cases that may notice, and the graphs that are to be proved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.discover import Ticket, discover, expand
from harness.faults.record import Catalogue
from harness.mutation.record import MutationError
from harness.pair import Pair
from harness.registry import load_pair

__all__ = ["Subject", "subject"]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """root: as the catalogue's. folder: the side's, absolute. side: its name.

    tickets: the quick cases in which the side's framework has a part, as the scenarios are found.
    cells: (scenario, label, left, right) of the quick parities of the side itself and another.
    """

    root: Path
    folder: Path
    side: str
    tickets: tuple[Ticket, ...]
    cells: tuple[tuple[str, str, str, str], ...]

    @property
    def package(self) -> str:
        """The top-level package that holds the folder."""
        return self.folder.relative_to(self.root).parts[0]


def subject(catalogue: Catalogue, folder: Path) -> Subject:
    """What mutating `folder` means for the pair and scenarios of `catalogue`.

    Raises MutationError if the folder is none, or not one side's own: what several sides share would change on both,
    and a comparison of the two would prove nothing.
    """
    root, place = catalogue.root.resolve(), folder.resolve()
    if not place.is_dir():
        raise MutationError(f"{folder} is not a folder: name the folder of one side's Python files")
    if place == root or not place.is_relative_to(root) or place.parent == root:
        raise MutationError(f"{folder} lies in no package in {root}: name the folder of one side there")
    pair = load_pair(catalogue.pair)
    if place.name not in pair.sides:
        known = ", ".join(pair.sides)
        raise MutationError(
            f"{folder} is no side's own folder: {place.name!r} is none of {pair.name}'s sides ({known}). Only what one "
            "side has for itself can be mutated: the other one is what it is held against"
        )
    tickets = _quick(catalogue, pair, place.name)
    if not tickets:
        raise MutationError(f"no quick case runs the side {place.name!r}: there is nothing that could notice a mutant")
    cells = {
        (ticket.scenario, ticket.label, *ticket.sides): None
        for ticket in tickets
        if ticket.relation < 0 and place.name in ticket.sides and len(set(ticket.sides)) == 2
    }
    return Subject(root=root, folder=place, side=place.name, tickets=tickets, cells=tuple(cells))


def _quick(catalogue: Catalogue, pair: Pair, side: str) -> tuple[Ticket, ...]:
    scenarios = discover(Path(catalogue.folder)) if catalogue.folder else pair.scenarios
    return tuple(
        ticket
        for name, scenario in scenarios.items()
        for ticket in expand(name, scenario, pair=catalogue.pair, folder=catalogue.folder)
        if ticket.quick and any(_uses(pair, each, side) for each in ticket.sides)
    )


def _uses(pair: Pair, name: str, side: str) -> bool:
    """Whether the side `name` is `side`, or a partly migrated one that holds modules of the same framework."""
    return name == side or bool(pair.sides[name].frameworks & pair.sides[side].frameworks)
