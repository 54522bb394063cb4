"""What a mutant is and what became of it: data, so that a report can be made of it, and the mutant made again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Mutant", "MutationError", "Outcome", "Status"]

Status = Literal["killed", "survived", "equivalent", "unseen"]


class MutationError(ValueError):
    """A campaign that cannot be begun. The message names the folder or the case, and the cure."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One replacement in one file; every other byte of the file stays.

    id: one word. file: path from the catalogue's root. line: of the first byte that changes. operator: which kind.
    start, end: offsets in the file's UTF-8 bytes of `old`, which becomes `new`; both hold as many line ends, so that
        lines keep their numbers.
    lines: first and last line of the statement that changes; (0, 0) if it runs when the module is imported.
    """

    id: str
    file: str
    line: int
    operator: str
    start: int
    end: int
    old: str
    new: str
    lines: tuple[int, int]

    def made(self, text: str) -> str:
        """`text`, the file's, with the replacement made. Raises MutationError if `old` does not stand there."""
        content = text.encode()
        if content[self.start : self.end] != self.old.encode():
            found = content[self.start : self.end].decode(errors="replace")
            raise MutationError(
                f"{self.id}: {self.file}:{self.line} holds {found!r} instead of {self.old!r}: it has changed since"
            )
        return (content[: self.start] + self.new.encode() + content[self.end :]).decode()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a mutant.

    status: "killed" by a case; else "equivalent" (every graph was proved equal, and one runs the statement), "unseen"
        (every graph was proved equal, but none runs the statement), or "survived" (a graph changed, or none is there).
    case, channel, place, rung: of a killed one: who noticed, in which channel, where, and the rung or ending.
    graphs: how many graphs were proved equal. cases: how many cases were run. detail: a sentence on why.
    """

    mutant: Mutant
    status: Status
    case: str = ""
    channel: str = ""
    place: str = ""
    rung: str = ""
    graphs: int = 0
    cases: int = 0
    seconds: float = 0.0
    detail: str = ""
