"""The report for a terminal: one line a case, then a summary and a paragraph for each case that failed."""

from __future__ import annotations

import textwrap

from tabulate import tabulate

from harness.report.record import Report, attested, counts, failed, flip_sentence, not_compared, reached
from harness.report.words import counted, duration, first_line, why
from harness.verdict import Verdict

__all__ = ["HEADINGS", "paragraphs", "row", "summary_lines", "table"]

HEADINGS = ("case", "sides", "reached", "moved", "first divergence", "seconds")

WIDTH = 100


def table(report: Report) -> str:
    """The whole report as text, ending with a newline."""
    rows = [row(verdict) for verdict in report.verdicts]
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


def row(verdict: Verdict) -> tuple[str, ...]:
    """The verdict's cells, in the order of HEADINGS."""
    moved = "" if verdict.moved == "nobody" else verdict.moved
    sides = ":".join(verdict.sides)
    return verdict.case, sides, reached(verdict), moved, first_line(verdict.first), f"{verdict.seconds:.1f}"


def summary_lines(report: Report) -> list[str]:
    """Counts by rung or ending, what was seen to run, what was left out, and the environment."""
    numbers = ", ".join(f"{count} {name}" for name, count in counts(report).items()) or "no case"
    lines = [f"Reached: {numbers}; {counted(len(report.verdicts), 'case')} in {duration(report.seconds)}"]
    for side, classes in attested(report).items():
        lines.append(f"Attested on {side}: {', '.join(classes) or 'no class of its own'}")
    lines += [f"Left out: {phrase}" for phrase in report.left_out]
    lines += [f"Not compared in {counted(number, 'case')}: {what}" for what, number in not_compared(report).items()]
    if here := report.environment:
        versions = f"Python {here.python}, jax {here.jax}, flax {here.flax}, {here.device}"
        lines.append(f"Environment: {versions}, x64 {here.x64}, matmul precision {here.matmul_precision}")
    return lines


def _few(cases: list[str]) -> str:
    """The first three; the table has them all."""
    more = f" and {len(cases) - 3} more" if len(cases) > 3 else ""
    return ", ".join(cases[:3]) + more


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="  ", break_long_words=False)
