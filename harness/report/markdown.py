"""The report as Markdown, for a pull request or a file that is kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

from harness.report.record import Report, failed, flip_sentence
from harness.report.table import HEADINGS, paragraphs, row, summary_lines
from harness.report.words import counted

__all__ = ["markdown"]


def markdown(report: Report) -> str:
    """The whole report, decision first, ending with a newline."""
    parts = ["# Parity report", f"**{flip_sentence(report)}**", _bullets(summary_lines(report))]
    if failed(report):
        parts += ["## Failed cases"]
        parts += [f"### {_plain(heading)}\n\n{_plain(reason)}" for heading, reason in paragraphs(report)]
    if report.verdicts:
        lines = [HEADINGS, ("---",) * len(HEADINGS), *(row(verdict, report.reuse) for verdict in report.verdicts)]
        parts += ["## All cases", "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)]
    if sentences := _why_not_higher(report):
        parts += ["## Why not one rung higher", _bullets(sentences)]
    parts += ["## How this was run", _bullets([f"started {report.started}", f"`{report.command}`"])]
    if report.environment:
        parts += [_bullets([f"{name}: {value}" for name, value in asdict(report.environment).items() if value != ""])]
    return "\n\n".join(parts) + "\n"


def _why_not_higher(report: Report) -> list[str]:
    """Each reason once, with the number of passing cases that it holds for."""
    found = Counter(verdict.why_not_higher for verdict in report.verdicts if verdict.passed and verdict.why_not_higher)
    return [f"{counted(count, 'case')}: {sentence}" for sentence, count in found.items()]


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {_plain(line)}" for line in lines)


def _plain(text: str) -> str:
    """Text in which a name with < or * (an error message, a pattern) is not taken for markup."""
    return text.replace("<", "&lt;").replace("*", "\\*").replace("\n", " ")


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")
