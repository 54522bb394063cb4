"""The way of a golden onto disk: candidates are written aside, read by a person, then moved over, byte for byte."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.aside import write
from harness.golden.document import BrokenGolden, Document, case_of, parse, render
from harness.golden.store import Stale, Tampered, body_path, header_path, read_document
from harness.observation import Observation

__all__ = ["PENDING", "GoldenError", "Row", "accept", "candidate", "pending", "status"]

PENDING = ".pending"
"""Folder of candidates, inside the folder of goldens."""

State = Literal["fresh", "stale", "missing", "tampered", "orphan", "pending"]


class GoldenError(Exception):
    """A golden may not be written now. The message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of `status`: a scenario may have several."""

    scenario: str
    state: State
    detail: str


def pending(
    folder: Path,
    scenario: str,
    observed: Mapping[str, tuple[Observation, str]],
    current: Mapping[str, str],
) -> tuple[Path, Path]:
    """Writes the candidate of a scenario's golden to folder/.pending and returns the paths of header and body.

    observed: golden key -> (observation, case digest), what was run just now. current: golden key -> case digest of
    every case that the scenario has today. A case that was not run is carried over from the accepted golden if its
    digest is still the current one; cases that the scenario no longer has are left out.

    Raises GoldenError for a key that holds "/" or is not in `current`, TypeError for an array that cannot be kept.
    """
    for key in observed:
        if key not in current or "/" in key:
            raise GoldenError(
                f"{key!r} is no golden key of scenario {scenario!r}; it has {', '.join(current) or 'none'}"
            )
    cases = {key: case_of(observation, digest) for key, (observation, digest) in observed.items()}
    accepted = read_document(folder, scenario)
    if isinstance(accepted, Document):
        kept = {key: case for key, case in accepted.cases.items() if current.get(key) == case.digest}
        cases = kept | cases
    return candidate(folder, Document(scenario=scenario, cases=cases))


def candidate(folder: Path, document: Document) -> tuple[Path, Path]:
    """Writes `document` to folder/.pending and returns the paths of header and body."""
    header, body = render(document)
    aside = folder / PENDING
    aside.mkdir(parents=True, exist_ok=True)
    paths = _paths(aside, document.scenario)
    write(paths[1], body)
    write(paths[0], header)
    return paths


def accept(folder: Path, scenario: str) -> tuple[Path, Path]:
    """Moves exactly the pending bytes of a scenario over its golden and returns the paths of header and body.

    An accept that was interrupted between the two files can be run again and finishes.

    Raises GoldenError if nothing is pending, if the pending files are not as they were written, under pytest-xdist
    (PYTEST_XDIST_WORKER is set) and in continuous integration (CI is true).
    """
    _refuse_without_reader()
    aside = folder / PENDING
    new, old = _paths(aside, scenario), _paths(folder, scenario)
    again = f"run `harness golden regenerate --scenario {scenario}` first"
    if not new[0].exists():
        raise GoldenError(f"nothing is pending for scenario {scenario!r} in {aside}: {again}")
    halfway = not new[1].exists() and old[1].exists()
    try:
        parse(new[0].read_bytes(), (old if halfway else new)[1].read_bytes())
    except (BrokenGolden, FileNotFoundError) as error:
        raise GoldenError(
            f"the pending golden of scenario {scenario!r} cannot be accepted: {error}: {again}"
        ) from error
    if not halfway:
        os.replace(new[1], old[1])
    os.replace(new[0], old[0])
    return old


def status(folder: Path, scenarios: Mapping[str, Mapping[str, str]]) -> tuple[Row, ...]:
    """How the goldens in `folder` stand to the scenarios of today: name -> golden key -> case digest.

    One row for each scenario (tampered, missing, stale or fresh; the worst of its cases), then one for each accepted
    case that its scenario no longer has and each golden without scenario (orphan), and for each candidate (pending).
    """
    rows: list[Row] = []
    for scenario, digests in scenarios.items():
        rows += _scenario_rows(folder, scenario, digests)
    for path in _files(folder):
        if path.stem not in scenarios:
            rows.append(Row(scenario=path.stem, state="orphan", detail=f"{path} belongs to no scenario: delete it"))
    waiting = dict.fromkeys(path.stem for path in _files(folder / PENDING))
    rows += [
        Row(scenario=name, state="pending", detail=f"read `harness golden diff --scenario {name}`") for name in waiting
    ]
    return tuple(rows)


def _scenario_rows(folder: Path, scenario: str, digests: Mapping[str, str]) -> list[Row]:
    document = read_document(folder, scenario)
    if not isinstance(document, Document):
        state: State = {Stale: "stale", Tampered: "tampered"}.get(type(document), "missing")  # type: ignore[assignment]
        return [Row(scenario=scenario, state=state, detail=document.sentence)]
    absent = [key for key in digests if key not in document.cases]
    changed = [key for key, case in document.cases.items() if digests.get(key, case.digest) != case.digest]
    words = [f"no golden for {key}" for key in absent] + [f"{key} has changed" for key in changed]
    state = "missing" if absent else "stale" if changed else "fresh"
    rows = [Row(scenario=scenario, state=state, detail="; ".join(words) or f"{len(digests)} cases")]
    gone = [key for key in document.cases if key not in digests]
    return rows + [Row(scenario=scenario, state="orphan", detail=f"its case {key} is no more") for key in gone]


def _files(folder: Path) -> Sequence[Path]:
    """One path for each golden in a folder: its header, or its body where there is no header."""
    found = {path.stem: path for suffix in ("npz", "json") for path in sorted(folder.glob(f"*.{suffix}"))}
    return [found[stem] for stem in sorted(found)]


def _paths(folder: Path, scenario: str) -> tuple[Path, Path]:
    return header_path(folder, scenario), body_path(folder, scenario)


def _refuse_without_reader() -> None:
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        raise GoldenError(
            f"goldens are not accepted under pytest-xdist (worker {worker}): run `harness golden accept` alone"
        )
    if os.environ.get("CI", "").lower() in ("true", "1", "yes"):
        raise GoldenError(
            "goldens are not accepted in continuous integration (CI is set): accept them where they are read"
        )
