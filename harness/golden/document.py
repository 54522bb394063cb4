"""A golden in memory, and the two files that it is: a header to be read in a diff and an exact body."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from harness.golden.body import pack, unpack
from harness.golden.entry import SAMPLE_ABOVE, Entry, entry_json, entry_of, from_stored, parse_entry, sample, stored
from harness.observation import CHANNELS, Attestation, Environment, Failure, Observation

__all__ = [
    "FORMAT",
    "BrokenGolden",
    "Document",
    "GoldenCase",
    "OtherFormat",
    "case_of",
    "parse",
    "render",
    "values_of",
]

FORMAT = 1

NOTE = (
    f"the body holds a sample of arrays of more than {SAMPLE_ABOVE} elements: element i of n is flat element "
    "floor((i + i*648055/2**20 mod 1) * size / n) of the whole; sha256, min, max and mean are of the whole"
)


class BrokenGolden(Exception):
    """The two files of a golden do not belong together, or are not as they were accepted. The message says which."""


class OtherFormat(BrokenGolden):
    """The header was written by a harness with another format."""


@dataclass(frozen=True, kw_only=True)
class GoldenCase:
    """One accepted observation: an Entry for every array, and the kept values by (channel, name).

    `observation` has no channels, no seconds and no list of Flax's own modules; everything else is as it was observed.
    graphs: part of the program -> digest of what was compiled (`harness.graph.digest`); {} if none is recorded.
    """

    observation: Observation
    entries: Mapping[str, Mapping[str, Entry]]
    kept: Mapping[tuple[str, str], np.ndarray]
    graphs: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The digest of the case that was observed."""
        return self.observation.case_digest


@dataclass(frozen=True, kw_only=True)
class Document:
    """All accepted cases of one scenario, golden key -> case."""

    scenario: str
    cases: Mapping[str, GoldenCase]


def case_of(observation: Observation, case_digest: str) -> GoldenCase:
    """An observation as a golden keeps it. Raises TypeError that names an array whose dtype cannot be kept."""
    entries: dict[str, dict[str, Entry]] = {}
    kept: dict[tuple[str, str], np.ndarray] = {}
    present = observation.channels
    for channel in (*(c for c in CHANNELS if c in present), *sorted(set(present).difference(CHANNELS))):
        entries[channel] = {}
        for name, value in present[channel].items():
            try:
                entry = entry_of(value)
            except TypeError as error:
                raise TypeError(f"{channel}/{name} of {observation.who} cannot be a golden: {error}") from error
            entries[channel][name] = entry
            kept[channel, name] = sample(value, entry.sampled)
    return GoldenCase(observation=_bare(observation, case_digest), entries=entries, kept=kept)


def values_of(case: GoldenCase) -> dict[str, dict[str, np.ndarray]]:
    """Channel -> name -> the kept values, whole arrays and flat samples alike, in forward order."""
    return {c: {name: case.kept[c, name] for name in lines} for c, lines in case.entries.items()}


def render(document: Document) -> tuple[bytes, bytes]:
    """The bytes of the header and of the body. The same content always gives the same bytes.

    Raises ValueError if two arrays would have one name in the body.
    """
    body: dict[str, np.ndarray] = {}
    for key, case in sorted(document.cases.items()):
        for (channel, name), values in case.kept.items():
            member = f"{key}/{channel}/{name}"
            if member in body:
                raise ValueError(f"two arrays of golden {document.scenario!r} are called {member!r}: rename one")
            body[member] = stored(values)
    packed = pack(body)
    header = {
        "format": FORMAT,
        "scenario": document.scenario,
        "note": NOTE,
        "header_sha256": "",
        "body_sha256": hashlib.sha256(packed).hexdigest(),
        "cases": {key: _case_json(case) for key, case in sorted(document.cases.items())},
    }
    header["header_sha256"] = _own_digest(_text(header))
    return _text(header).encode(), packed


def parse(header: bytes, body: bytes) -> Document:
    """The document that `render` made the two files from. Raises BrokenGolden if they are not as they were made."""
    text = header.decode("utf-8", "replace").replace("\r\n", "\n")
    try:
        raw = json.loads(text)
        written, version, body_digest = raw["header_sha256"], raw["format"], raw["body_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenGolden(f"the header is not a golden's: {error}") from error
    if version != FORMAT:
        raise OtherFormat(f"the header has format {version}, this harness reads {FORMAT}")
    if (found := _own_digest(text)) != written:
        raise BrokenGolden(
            f"the header was edited: it says header_sha256 {written[:12]}…, its text gives {found[:12]}…"
        )
    if (found := hashlib.sha256(body).hexdigest()) != body_digest:
        raise BrokenGolden(f"the body is another: the header says {body_digest[:12]}…, its bytes give {found[:12]}…")
    arrays = unpack(body)
    try:
        cases = {key: _parse_case(key, case, arrays) for key, case in raw["cases"].items()}
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenGolden(f"header and body do not describe the same arrays: {error!r}") from error
    return Document(scenario=raw["scenario"], cases=cases)


def _bare(observation: Observation, case_digest: str) -> Observation:
    """The observation without what changes from run to run, is too long for a header, or is kept in entries."""
    seen, error = observation.attestation, observation.error
    return Observation(
        who=observation.who,
        program=observation.program,
        channels={},
        seconds=0.0,
        environment=observation.environment,
        error=Failure(kind=error.kind, message=error.message) if error else None,
        attestation=Attestation(modules={}, own=seen.own, config_digest=seen.config_digest) if seen else None,
        case_digest=case_digest,
        notes=observation.notes,
    )


def _case_json(case: GoldenCase) -> dict[str, Any]:
    seen = case.observation
    line: dict[str, Any] = {"case_digest": seen.case_digest, "who": seen.who, "program": seen.program}
    line["environment"] = asdict(seen.environment)
    if seen.attestation:
        line |= {"own": list(seen.attestation.own), "config_digest": seen.attestation.config_digest}
    if seen.error:
        line["error"] = [seen.error.kind, seen.error.message]
    if case.graphs:
        line["graphs"] = dict(sorted(case.graphs.items()))
    line["notes"] = list(seen.notes)
    line["channels"] = {c: {name: entry_json(e) for name, e in lines.items()} for c, lines in case.entries.items()}
    return line


def _parse_case(key: str, line: Mapping[str, Any], body: Mapping[str, np.ndarray]) -> GoldenCase:
    known = {field.name for field in fields(Environment)}
    # A header may come from a harness whose Environment had fewer or other fields; what it lacks reads as empty.
    environment = dict.fromkeys(known, "") | {k: v for k, v in line["environment"].items() if k in known}
    own = line.get("own")
    observation = Observation(
        who=line["who"],
        program=line["program"],
        channels={},
        seconds=0.0,
        environment=Environment(**environment),
        error=Failure(kind=line["error"][0], message=line["error"][1]) if "error" in line else None,
        attestation=None
        if own is None
        else Attestation(modules={}, own=tuple(own), config_digest=line["config_digest"]),
        case_digest=line["case_digest"],
        notes=tuple(line["notes"]),
    )
    entries = {c: {name: parse_entry(e) for name, e in lines.items()} for c, lines in line["channels"].items()}
    kept = {}
    for channel, name, entry in _walk(entries):
        values = from_stored(body[f"{key}/{channel}/{name}"], entry)
        if not entry.sampled and _exact(entry_of(values)) != _exact(entry):
            raise ValueError(f"{channel}/{name} is not what its line says")
        kept[channel, name] = values
    graphs = {str(part): str(digest) for part, digest in line.get("graphs", {}).items()}
    return GoldenCase(observation=observation, entries=entries, kept=kept, graphs=graphs)


def _exact(entry: Entry) -> Entry:
    """The entry without its mean: another machine may sum in another order."""
    return replace(entry, mean=None)


def _walk(entries: Mapping[str, Mapping[str, Entry]]) -> Iterable[tuple[str, str, Entry]]:
    return ((channel, name, entry) for channel, lines in entries.items() for name, entry in lines.items())


def _text(value: dict[str, Any]) -> str:
    return _lines(value, "") + "\n"


def _lines(value: Any, indent: str) -> str:
    """JSON with one key a line; an array's entry (an object that has a sha256) and anything flat stay on one line."""
    if not isinstance(value, dict) or not value or isinstance(value.get("sha256"), str):
        return json.dumps(value, ensure_ascii=False)
    inner = indent + " "
    items = (f"{inner}{json.dumps(key, ensure_ascii=False)}: {_lines(item, inner)}" for key, item in value.items())
    return "{\n" + ",\n".join(items) + f"\n{indent}}}"


def _own_digest(text: str) -> str:
    """SHA-256 of the header without the line that holds it."""
    kept = (line for line in text.split("\n") if not line.startswith(' "header_sha256": '))
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()
