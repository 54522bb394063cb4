"""What a fault and a clean variation are: data, not code, so that the catalogue can be read, counted and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.observation import CHANNELS

__all__ = ["ATTESTATION", "Catalogue", "CatalogueError", "Edit", "Expect", "Fault", "Variation"]

Expect = Literal["diverged", "claim", "error", "refused"]

ATTESTATION = "attestation"
"""Where a refused run shows: it has no channel, because nothing was compared."""


class CatalogueError(ValueError):
    """A catalogue that no longer fits the code. The message names the entry, the file, the text and the cure."""


@dataclass(frozen=True)
class Edit:
    """One exact replacement: `old` must stand exactly once in `file`, a path from the catalogue's root."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A mistake that was made before, how to make it again, and who must notice.

    source: where it comes from: "FM06" (facts/hazards.md), "B34", "S9" (facts/maxtext.md 5), "MT:<commit>".
    channel: where the first divergence must be, one of `harness.observation.CHANNELS`, or ATTESTATION if refused.
    module: what it must be placed at, a pattern (`fnmatch`): the module path; for a claim the claim's name, for an
        error its text, for a refusal the refusal's sentence.
    scenarios: (scenario, cell): each must catch it. A cell is a label of the matrix, which means the scenario's first
        pair of sides, or what stands in a case's brackets: "llama2,linen:nnx_linen".
    expect: "diverged" (a value differs), "claim" (one is false), "error" (a side fails where the other does not),
        "refused" (by attestation). An error never counts as "diverged": an edit that breaks the code shows nothing.
    """

    id: str
    title: str
    source: str
    channel: str
    module: str
    edits: tuple[Edit, ...]
    scenarios: tuple[tuple[str, str], ...]
    expect: Expect = "diverged"

    def __post_init__(self) -> None:
        if self.channel not in (*CHANNELS, ATTESTATION):
            known = ", ".join((*CHANNELS, ATTESTATION))
            raise CatalogueError(f"fault {self.id!r}: no channel is called {self.channel!r}: choose from {known}")
        if not (self.edits and self.scenarios):
            raise CatalogueError(f"fault {self.id!r} needs at least one edit and one scenario that must catch it")


@dataclass(frozen=True, kw_only=True)
class Variation:
    """Something that changes no meaning: other words for the same program, or other settings. It must stay equal.

    scenario, cell: the case that is varied. edits: as in Fault, but harmless. seed is added to the scenario's.
    settings: dotted path into the case's settings -> JSON value: {"config.emb_dim": 28}; lists become tuples.
    """

    id: str
    title: str
    scenario: str
    cell: str
    edits: tuple[Edit, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Faults and variations of one code base.

    root: folder from which the edits' files are named, and in which the packages that they belong to lie.
    pair: as `harness.registry.load_pair` takes it. folder: of scenario files; "" for those that the pair brings.
    """

    root: Path
    pair: str
    folder: str
    faults: tuple[Fault, ...]
    variations: tuple[Variation, ...]

    @property
    def entries(self) -> tuple[Fault | Variation, ...]:
        """Faults, then variations."""
        return (*self.faults, *self.variations)
