"""What accepting the pending golden of a scenario would change, in lines that a reviewer reads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from harness.distance import same_bits, same_nonfinite, spread
from harness.golden.acceptance import PENDING
from harness.golden.document import Document, GoldenCase
from harness.golden.entry import Entry, places
from harness.golden.store import Missing, read_document
from harness.observation import Observation

__all__ = ["diff"]


def diff(folder: Path, scenario: str) -> list[str]:
    """One line for each case and array that is new, gone or changed, and for what was observed around them.

    A changed array shows its old and new digest, minimum, maximum and mean, and the largest change where both bodies
    hold the same elements. Nothing pending, or a pending golden that cannot be read, is one line too.
    """
    new, old = read_document(folder / PENDING, scenario), read_document(folder, scenario)
    if not isinstance(new, Document):
        if isinstance(new, Missing):
            return [f"{scenario}: nothing is pending: run `harness golden regenerate --scenario {scenario}`"]
        return [f"{scenario}: the pending golden cannot be read: {new.sentence}"]
    lines = []
    if not isinstance(old, Document):
        lines.append(f"{scenario}: no accepted golden to compare with: {old.sentence}")
        old = Document(scenario=scenario, cases={})
    for key in sorted({*old.cases, *new.cases}):
        if key not in new.cases:
            lines.append(f"{scenario}/{key}: gone, the scenario no longer has this case")
        elif key not in old.cases:
            lines.append(f"{scenario}/{key}: new, {_size(new.cases[key])}")
        else:
            lines += [f"{scenario}/{key}: {line}" for line in _case(old.cases[key], new.cases[key])]
    return lines or [f"{scenario}: nothing changes"]


def _size(case: GoldenCase) -> str:
    counts = ", ".join(f"{channel} {len(lines)}" for channel, lines in case.entries.items())
    return f"arrays: {counts or 'none'}{_error(case.observation)}"


def _case(old: GoldenCase, new: GoldenCase) -> Iterator[str]:
    yield from _around(old.observation, new.observation)
    yield from _graphs(old.graphs, new.graphs)
    for channel in dict.fromkeys((*old.entries, *new.entries)):
        ours, theirs = old.entries.get(channel, {}), new.entries.get(channel, {})
        for name in dict.fromkeys((*ours, *theirs)):
            place = f"{channel}/{name}"
            if name not in theirs:
                yield f"{place}: gone, was {_summary(ours[name])}"
            elif name not in ours:
                yield f"{place}: new, {_summary(theirs[name])}"
            elif ours[name].sha256 != theirs[name].sha256:
                change = _change(old, new, (channel, name))
                yield f"{place}: {_summary(ours[name])} -> {_summary(theirs[name])}{change}"
        if list(ours) != list(theirs) and set(ours) == set(theirs):
            yield f"{channel}: the same names in another order"


def _around(old: Observation, new: Observation) -> Iterator[str]:
    """What changed besides the arrays."""
    if old.case_digest != new.case_digest:
        yield f"the case changed: digest {old.case_digest[:12]}… -> {new.case_digest[:12]}…"
    writers = [f"{seen.who}:{seen.program}" for seen in (old, new)]
    if writers[0] != writers[1]:
        yield f"written by {writers[0]} -> {writers[1]}"
    before, after = asdict(old.environment), asdict(new.environment)
    yield from (f"environment {key}: {before[key]} -> {after[key]}" for key in after if before[key] != after[key])
    own = [seen.attestation.own if seen.attestation else () for seen in (old, new)]
    if own[0] != own[1]:
        yield f"own classes: {', '.join(own[0]) or 'none'} -> {', '.join(own[1]) or 'none'}"
    if old.error != new.error:
        yield f"error{_error(old) or ', none'} ->{_error(new) or ', none'}"
    if old.notes != new.notes:
        yield f"notes: {list(old.notes)} -> {list(new.notes)}"


def _graphs(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    """One line for each part of the program whose graph changed, came or went; one if nothing was known before."""
    if new and not old:
        yield f"graphs: recorded for the first time ({', '.join(new)})"
        return
    for part in dict.fromkeys((*old, *new)):
        before, after = (_graph(graphs.get(part, "")) for graphs in (old, new))
        if before != after:
            yield f"the graph of {part} changed: {before} -> {after}"


def _graph(digest: str) -> str:
    values, _, marks = digest.partition(":")
    return f"{values[:12]}… with marks {marks[:12]}…" if digest else "none"


def _error(seen: Observation) -> str:
    return f", {seen.error.kind}: {seen.error.message}" if seen.error else ""


def _summary(entry: Entry) -> str:
    numbers = "" if entry.low is None else f" min {entry.low} max {entry.high} mean {entry.mean}"
    odd = f" {entry.nonfinite} not finite" if entry.nonfinite else ""
    sampled = " (sampled)" if entry.sampled else ""
    return f"{entry.dtype}{list(entry.shape)} {entry.sha256}{numbers}{odd}{sampled}"


def _change(old: GoldenCase, new: GoldenCase, place: tuple[str, str]) -> str:
    """The largest change of the kept elements, where old and new keep the same ones."""
    before, after = old.entries[place[0]][place[1]], new.entries[place[0]][place[1]]
    a, b = old.kept[place], new.kept[place]
    if before.dtype != after.dtype or before.shape != after.shape or before.dtype == "text" or not a.size:
        return ""
    if same_bits(a, b):
        return ", the sampled elements are the same"
    if same_nonfinite(a, b) >= 0:
        return ", other elements are not finite"
    far = spread(a, b, 0.0, 0.0)
    size = math.prod(before.shape)
    worst = places(size, before.sampled)[far.worst] if before.sampled else far.worst
    index = tuple(int(i) for i in np.unravel_index(worst, before.shape))
    return f", max change {far.max_abs:.3g} (relative {far.max_rel:.3g}) at {list(index)}"
