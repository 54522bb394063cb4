"""Reads a golden from disk. What cannot be compared is a value with a sentence that says what to do, not an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.golden.document import BrokenGolden, Document, OtherFormat, parse, values_of
from harness.golden.entry import Entry
from harness.observation import Observation

__all__ = ["Loaded", "Missing", "Stale", "Tampered", "body_path", "header_path", "load", "read_document"]


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A fresh golden.

    observation: as it was accepted, but an array whose (channel, name) is in `sampled` is a flat sample of it; its
        `Entry` knows shape, digest and extremes of the whole. `harness.golden.check.drift_from` compares with both.
    graphs: part of the program -> digest of what the ruler compiled, {} if the golden records none.
    """

    observation: Observation
    sampled: Mapping[tuple[str, str], Entry]
    graphs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Missing:
    """There is no golden. `sentence` says what to do."""

    sentence: str


@dataclass(frozen=True, kw_only=True)
class Stale:
    """The golden belongs to another case or format, so nothing is compared. `sentence` says what to do."""

    sentence: str


@dataclass(frozen=True, kw_only=True)
class Tampered:
    """The files are not as they were accepted. `sentence` says what is wrong and what to do."""

    sentence: str


def header_path(folder: Path, scenario: str) -> Path:
    """Where the header of a scenario's golden lies."""
    return folder / f"{scenario}.json"


def body_path(folder: Path, scenario: str) -> Path:
    """Where the body of a scenario's golden lies."""
    return folder / f"{scenario}.npz"


def load(folder: Path, scenario: str, golden_key: str, case_digest: str) -> Loaded | Missing | Stale | Tampered:
    """The golden `golden_key` of a scenario, if it is the golden of the case with this digest."""
    document = read_document(folder, scenario)
    if not isinstance(document, Document):
        return document
    case = document.cases.get(golden_key)
    if case is None:
        known = ", ".join(document.cases) or "none"
        lack = f"the golden of scenario {scenario!r} has no case {golden_key!r} (it has {known})"
        return Missing(sentence=f"{lack}: {_renew(scenario)}")
    if case.digest != case_digest:
        return Stale(
            sentence=f"the case {golden_key!r} of scenario {scenario!r} has changed since its golden was accepted "
            f"(digest {case_digest[:12]}…, golden {case.digest[:12]}…), so they are not compared: {_renew(scenario)}"
        )
    sampled = {
        (channel, name): entry
        for channel, lines in case.entries.items()
        for name, entry in lines.items()
        if entry.sampled
    }
    whole = replace(case.observation, channels=values_of(case))
    return Loaded(observation=whole, sampled=sampled, graphs=case.graphs)


def read_document(folder: Path, scenario: str) -> Document | Missing | Stale | Tampered:
    """All cases of a scenario's golden, or why they cannot be had."""
    header, body = header_path(folder, scenario), body_path(folder, scenario)
    there = [path for path in (header, body) if path.exists()]
    if not there:
        return Missing(sentence=f"scenario {scenario!r} has no golden in {folder}: {_renew(scenario)}")
    if len(there) == 1:
        gone = body if there == [header] else header
        return Tampered(sentence=f"{gone} is gone while {there[0].name} is there: {_restore(scenario)}")
    try:
        document = parse(header.read_bytes(), body.read_bytes())
    except OtherFormat as error:
        return Stale(sentence=f"{header}: {error}: {_renew(scenario)}")
    except BrokenGolden as error:
        return Tampered(sentence=f"{header} was not written by accept: {error}: {_restore(scenario)}")
    if document.scenario != scenario:
        reason = f"{header} is the golden of scenario {document.scenario!r}, not of {scenario!r}"
        return Tampered(sentence=f"{reason}: {_restore(scenario)}")
    return document


def _renew(scenario: str) -> str:
    option = f"--scenario {scenario}"
    return (
        f"run `harness golden regenerate {option}`, read `harness golden diff {option}`, "
        f"then `harness golden accept {option}`"
    )


def _restore(scenario: str) -> str:
    return f"restore both files from version control, or {_renew(scenario)}"
