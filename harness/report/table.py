"""The report for a terminal: one line a case, then a summary and a paragraph for each case that failed."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator

from tabulate import tabulate

from harness.difference import describe
from harness.report.record import (
    Report,
    Reuse,
    attested,
    counts,
    excused,
    failed,
    flip_sentence,
    not_compared,
    reached,
    since_goldens,
)
from harness.report.words import counted, diverged, duration, first_line, why
from harness.verdict import Verdict

__all__ = ["HEADINGS", "paragraphs", "row", "summary_lines", "table"]

HEADINGS = ("case", "sides", "reached", "moved", "first divergence", "seconds")

WIDTH = 100


def table(report: Report) -> str:
    """The whole report as text, ending with a newline."""
    rows = [row(verdict, report.reuse) for verdict in report.verdicts]
    parts = [tabulate(rows, HEADINGS, tablefmt="simple", disable_numparse=True)] if rows else []
    parts += [f"{heading}\n{_wrapped(reason)}" for heading, reason in paragraphs(report)]
    parts += ["\n".join(summary_lines(report)), flip_sentence(report)]
    return "\n\n".join(parts) + "\n"


def paragraphs(report: Report) -> list[tuple[str, str]]:
    """(cases and what they reached, why) for each reason to fail; cases that share one stand together."""
    found: dict[tuple[str, str], list[str]] = {}
    for verdict in failed(report):
        found.setdefault((reached(verdict), why(verdict)), []).append(verdict.case)
    return [(f"{_few(cases)}: {what}", reason) for (what, reason), cases in found.items()]


def row(verdict: Verdict, reuse: Reuse) -> tuple[str, ...]:
    """The verdict's cells, in the order of HEADINGS. A verdict of an earlier run took no seconds of this one."""
    moved = "" if verdict.moved == "nobody" else verdict.moved
    sides = ":".join(verdict.sides)
    seconds = "reused" if verdict.case in reuse.reused else f"{verdict.seconds:.1f}"
    return verdict.case, sides, reached(verdict), moved, first_line(verdict.first), seconds


def summary_lines(report: Report) -> list[str]:
    """Counts by rung or ending, what was seen to run, what was left out, and the environment."""
    numbers = ", ".join(f"{count} {name}" for name, count in counts(report).items()) or "no case"
    lines = [f"Reached: {numbers}; {counted(len(report.verdicts), 'case')} in {duration(report.seconds)}"]
    for side, classes in attested(report).items():
        lines.append(f"Attested on {side}: {', '.join(classes) or 'no class of its own'}")
    lines += [*_reuse(report), *_since(report)]
    lines += [f"Left out: {phrase}" for phrase in report.left_out]
    lines += [f"Not compared in {counted(number, 'case')}: {what}" for what, number in not_compared(report).items()]
    lines += [f"To hand on: harness reproduce {shlex.quote(v.case)}" for v in report.verdicts if diverged(v)][:1]
    if here := report.environment:
        versions = f"Python {here.python}, jax {here.jax}, flax {here.flax}, {here.device}"
        lines.append(f"Environment: {versions}, x64 {here.x64}, matmul precision {here.matmul_precision}")
    return lines


def _reuse(report: Report) -> Iterator[str]:
    """What was not run, what was run to see whether that was right, and why the rest was run again."""
    reuse = report.reuse
    for case, what in reuse.failed.items():
        yield f"AUDIT FAILED: {case}: {what}. Nothing that it rests on changed: run with --fresh"
    if reuse.reused or reuse.audited:
        numbers = f"{len(reuse.reused)} of {len(report.verdicts)}, audited: {len(reuse.audited)}"
        yield f"Verdicts of earlier runs reused: {numbers} (seed {reuse.seed})"
    for part, number in reuse.again.items():
        graphs = f", graphs unchanged in {reuse.unchanged}" if part == "code" else ""
        reason = "as asked" if part == "asked" else f"for another {part}"
        yield f"Run again {reason}: {counted(number, 'case')}{graphs}"


def _since(report: Report) -> Iterator[str]:
    """What moved since the goldens, and the largest drift that was put down to a compiler."""
    for sentence, verdicts in since_goldens(report).items():
        let_off = [(found.max_abs, each.case, found) for each in verdicts if (found := excused(each))]
        worst = max(let_off, key=lambda each: each[:2]) if let_off else None
        most = f"; the largest in {worst[1]}: {describe(worst[2])} (golden first)" if worst else ""
        yield f"Since the goldens, in {counted(len(verdicts), 'case')}: {sentence}{most}"


def _few(cases: list[str]) -> str:
    """The first three; the table has them all."""
    more = f" and {len(cases) - 3} more" if len(cases) > 3 else ""
    return ", ".join(cases[:3]) + more


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="  ", break_long_words=False)
