"""All mutants of a folder, and a seeded sample that is spread over its files and over the operators."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness.mutation.operators import OPERATORS
from harness.mutation.record import Mutant
from harness.mutation.source import Source

__all__ = ["mutants", "mutants_of", "sampled"]


def mutants(root: Path, folder: Path) -> tuple[Mutant, ...]:
    """Every mutant of the Python files below `folder`, which lies in `root`, in the order of the files and lines.

    `__init__.py` is left out. Empty if there is no Python.
    """
    files = sorted(path for path in folder.rglob("*.py") if path.name != "__init__.py")
    found = [
        mutant for path in files for mutant in mutants_of(path.relative_to(root).as_posix(), path.read_bytes().decode())
    ]
    return tuple(replace(mutant, id=f"m{number:04d}") for number, mutant in enumerate(found, start=1))


def mutants_of(file: str, text: str) -> tuple[Mutant, ...]:
    """Every mutant of one file that is still Python, and another tree than the file's. Raises SyntaxError."""
    source = Source(text)
    known, found = {ast.dump(source.tree)}, []
    for mutant in _possible(file, source):
        try:
            tree = ast.dump(ast.parse(mutant.made(text)))
        except SyntaxError:  # for example a decorator's or an argument's text that its neighbour needs
            continue
        if tree not in known:
            known.add(tree)
            found.append(mutant)
    return tuple(found)


def _possible(file: str, source: Source) -> Iterator[Mutant]:
    for node in source.living:
        for name, operator in OPERATORS.items():
            for start, end, new in operator(source, node):
                yield Mutant(
                    id="m",
                    file=file,
                    line=source.line(start),
                    operator=name,
                    start=start,
                    end=end,
                    old=source.text(start, end),
                    new=new,
                    lines=source.lines(node),
                )


def sampled(every: Sequence[Mutant], count: int, seed: int) -> tuple[Mutant, ...]:
    """`count` of `every`, or all if there are fewer, drawn by `seed` alone, in their own order.

    Files are dealt from in turn, and in each file operators in turn, so that no long file and no frequent operator
    takes the sample.
    """
    chance = random.Random(seed)
    piles: dict[str, dict[str, list[Mutant]]] = {}
    for mutant in every:
        piles.setdefault(mutant.file, {}).setdefault(mutant.operator, []).append(mutant)
    files = [_dealt([_shuffled(pile, chance) for pile in _shuffled(by.values(), chance)]) for by in piles.values()]
    chosen = {mutant.id for mutant in _dealt(_shuffled(files, chance))[:count]}
    return tuple(mutant for mutant in every if mutant.id in chosen)


def _shuffled(items, chance: random.Random) -> list:
    mixed = list(items)
    chance.shuffle(mixed)
    return mixed


def _dealt(piles: Sequence[Sequence[Mutant]]) -> list[Mutant]:
    """One of each pile in turn until all are empty."""
    most = max(map(len, piles), default=0)
    return [pile[turn] for turn in range(most) for pile in piles if turn < len(pile)]
