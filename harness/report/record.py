"""A finished run: its verdicts, what they were reached on, and the one sentence that everybody waits for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.difference import Difference
from harness.observation import Environment
from harness.verdict import Ending, Rung, Verdict

__all__ = [
    "Report",
    "Reuse",
    "attested",
    "counts",
    "excused",
    "failed",
    "flip_sentence",
    "may_flip",
    "not_compared",
    "reached",
    "since_goldens",
]


@dataclass(frozen=True, kw_only=True)
class Reuse:
    """What became of the verdicts that earlier runs had left.

    reused: cases that were not run. audited: reusable cases that were run all the same, drawn with `seed`. failed:
    those of them whose verdict was another, and how. again: what had changed ("code", "golden"...) -> how many cases
    were run again for it. unchanged: how many of those with other code compile what they did, on both sides.
    """

    reused: tuple[str, ...] = ()
    audited: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    again: Mapping[str, int] = field(default_factory=dict)
    unchanged: int = 0


@dataclass(frozen=True, kw_only=True)
class Report:
    """What one run found.

    environment: of the runs, None if none of them got that far. command: as it was typed. started: ISO 8601 date and
    time. seconds: wall time of the whole. left_out: one phrase for each thing that this run did not look at.
    reuse: which verdicts are of earlier runs.
    """

    verdicts: tuple[Verdict, ...]
    environment: Environment | None
    command: str
    started: str
    seconds: float
    left_out: tuple[str, ...] = ()
    reuse: Reuse = field(default_factory=Reuse)


def reached(verdict: Verdict) -> str:
    """The rung, or the ending where there is one: "BITWISE", "TIMEOUT", "BITWISE, but DRIFTED FROM GOLDEN"."""
    if verdict.ending is None:
        return str(verdict.rung or Ending.NOTHING_COMPARED)
    return f"{verdict.rung}, but {verdict.ending}" if verdict.rung else str(verdict.ending)


def counts(report: Report) -> Mapping[str, int]:
    """How many cases reached what, best rung first."""
    found = Counter(reached(verdict) for verdict in report.verdicts)
    order = [str(rung) for rung in Rung]
    return dict(sorted(found.items(), key=lambda item: (order.index(item[0]) if item[0] in order else 99, item[0])))


def failed(report: Report) -> tuple[Verdict, ...]:
    """The cases that do not let the flag be flipped. A skipped one does not either: nobody knows what it would say."""
    return tuple(verdict for verdict in report.verdicts if not verdict.passed)


def may_flip(report: Report) -> bool:
    """Whether every case passed, and there was one. `Report.left_out` says how far that goes."""
    return bool(report.verdicts) and not failed(report)


def flip_sentence(report: Report) -> str:
    """The decision in one sentence, with how far it goes."""
    if not report.verdicts:
        return "The flag may not be flipped: no case was run."
    if bad := failed(report):
        return f"The flag may not be flipped: {len(bad)} of {len(report.verdicts)} cases failed."
    if report.left_out:
        return f"The flag may be flipped as far as this run looked. It left out: {'; '.join(report.left_out)}."
    return "The flag may be flipped."


def not_compared(report: Report) -> Mapping[str, int]:
    """What was not compared, and why -> in how many cases."""
    return Counter(f"{what} ({why})" for verdict in report.verdicts for what, why in verdict.not_compared.items())


def excused(verdict: Verdict) -> Difference | None:
    """The largest of the differences beyond drift that a passing case was let off for; None if there is none."""
    beyond = [each for drift in verdict.drift for each in drift.differences if each.allowed_by is None]
    return max(beyond, key=lambda each: each.max_abs) if beyond and verdict.passed else None


def since_goldens(report: Report) -> Mapping[str, tuple[Verdict, ...]]:
    """What moved since the goldens, in a sentence -> the verdicts that it is true of."""
    found: dict[str, list[Verdict]] = {}
    for verdict in report.verdicts:
        if verdict.since_golden:
            found.setdefault(verdict.since_golden, []).append(verdict)
    return {sentence: tuple(verdicts) for sentence, verdicts in found.items()}


def attested(report: Report) -> Mapping[str, tuple[str, ...]]:
    """Side -> its own module classes that were seen to run, over all cases, sorted."""
    found: dict[str, set[str]] = {}
    for verdict in report.verdicts:
        for side, attestation in verdict.attestations.items():
            found.setdefault(side, set()).update(attestation.own)
    return {side: tuple(sorted(classes)) for side, classes in sorted(found.items())}
