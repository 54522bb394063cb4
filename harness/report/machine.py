"""The report as JSON with a version, for other programs. A version may gain fields; none changes its meaning."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from harness.difference import Difference
from harness.report.record import Report, attested, counts, failed, flip_sentence, may_flip
from harness.report.words import cure, number
from harness.verdict import Verdict
from harness.verdict_json import to_json

__all__ = ["VERSION", "machine"]

VERSION = 1


def machine(report: Report) -> str:
    """The whole report, ending with a newline. Numbers that are not finite are the strings "inf", "-inf" and "nan"."""
    content = {
        "version": VERSION,
        "may_flip": may_flip(report),
        "decision": flip_sentence(report),
        "summary": {
            "cases": len(report.verdicts),
            "failed": len(failed(report)),
            "reached": counts(report),
            "attested": attested(report),
            "left_out": report.left_out,
        },
        "reuse": asdict(report.reuse),
        "command": report.command,
        "started": report.started,
        "seconds": report.seconds,
        "environment": asdict(report.environment) if report.environment else None,
        "scenarios": [{**_case(verdict), "reused": verdict.case in report.reuse.reused} for verdict in report.verdicts],
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _case(verdict: Verdict) -> dict[str, Any]:
    """One case. `verdict` is all of it, as `harness.verdict_json.from_json` reads it; the rest is for scripts."""
    whole = to_json(verdict)
    return {
        "name": verdict.case,
        "scenario": verdict.scenario,
        "sides": list(verdict.sides),
        "rung": whole["rung"],
        "ending": whole["ending"],
        "passed": verdict.passed,
        "channels": whole["parity"]["channels"] if whole["parity"] else {},
        "first_divergence": _first(verdict.first, verdict.module, verdict.step),
        "detail": verdict.detail,
        "cure": cure(verdict),
        "why_not_higher": verdict.why_not_higher,
        "since_golden": verdict.since_golden,
        "moved": verdict.moved,
        "seconds": verdict.seconds,
        "attestation": whole["attestations"],
        "not_compared": whole["not_compared"],
        "verdict": whole,
    }


def _first(first: Difference | None, module: str, step: tuple[int, int] | None) -> dict[str, Any] | None:
    if first is None:
        return None
    sizes = {"max_abs": first.max_abs, "max_rel": first.max_rel}
    finite = {name: value if value - value == 0 else number(value) for name, value in sizes.items()}
    return {
        "channel": first.channel,
        "name": first.name,
        "module": module,
        "step": list(step) if step else None,
        "reason": first.reason,
        "left": first.left,
        "right": first.right,
        "where": list(first.where),
        "ulp": first.ulp,
        **finite,
    }
