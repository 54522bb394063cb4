"""Why a case failed and what to do about it, in sentences. Shared by every report that people read."""

from __future__ import annotations

import math

from harness.difference import Difference, describe
from harness.report.causes import cause_text, step_text
from harness.verdict import Ending, Rung, Verdict

__all__ = ["counted", "cure", "diverged", "duration", "first_line", "number", "why"]

CURES = {
    Ending.NOTHING_COMPARED: "make both sides return the same channels and names, so that there is something to hold.",
    Ending.MISSING_GOLDEN: "run `harness golden regenerate --scenario {scenario}`, read the diff, then accept it.",
    Ending.STALE_GOLDEN: "run `harness golden regenerate --scenario {scenario}`, read the diff, then accept it.",
    Ending.TAMPERED_GOLDEN: "restore the golden's two files from version control; only `accept` may write them.",
    Ending.DRIFTED: "both sides may have moved together: mend the code, or accept a new golden and say why.",
    Ending.UNUSED_ALLOWANCE: "remove the allowance from scenarios/{scenario}.py: nothing needs it any more.",
    Ending.REFUSED: "make each side run its own classes, or call it bridged (`bridged=True`, `Side.frameworks`).",
    Ending.NONDETERMINISTIC: "pin what varies (keys, order of reductions) before comparing sides.",
    Ending.TIMEOUT: "raise `seconds` in the scenario or pass --timeout, if the place where it hung looks innocent.",
    Ending.OUT_OF_MEMORY: "raise `gibibytes` in the scenario or pass --memory, or make the case smaller.",
}

SAY_IT_THEMSELVES = (Ending.MISSING_GOLDEN, Ending.STALE_GOLDEN, Ending.TAMPERED_GOLDEN, Ending.UNUSED_ALLOWANCE)
"""Endings whose detail ends with the cure."""

DIFFERENCE_CURES = {
    "missing": "add the name to the right side or to the name map.",
    "extra": "remove the name from the right side, or add it to the left one and to the name map.",
    "dtype": "look for a missing or additional cast.",
    "shape": "look for a transposed, merged or padded axis.",
    "nonfinite": "find the first NaN or infinity upstream of the place named.",
    "claim": "a claim is false, so equal values prove nothing: make the scenario exercise the thing it claims.",
    "error": "one side raises: mend it, or make both raise the same.",
}

MARKED = "lay the same constraints and remat on both sides; prevent_cse=False leaves out the barrier of a remat."
NOT_NOISE = "not WITHIN NOISE: "


def why(verdict: Verdict) -> str:
    """One paragraph: where it first diverged and by how much, what else is known, and the cure where one is known."""
    sentences = []
    if verdict.first:
        sentences.append(f"First divergence{_module(verdict)}: {describe(verdict.first)}.")
    sentences += [
        _sentence(text) for text in (_no_noise(verdict), step_text(verdict.step), cause_text(verdict.forced)) if text
    ]
    if parted := next((each for each in verdict.proofs if each.parting), None):
        sentences.append(f"First operation that differs in {parted.part}: {parted.parting}.")
    if verdict.detail:
        sentences.append(_sentence(verdict.detail))
    if verdict.moved not in ("nobody", ""):
        sentences.append(f"Moved: {verdict.moved}.")
    known = cure(verdict)
    if known and not (verdict.ending in SAY_IT_THEMSELVES and verdict.detail):
        sentences.append(f"Cure: {known}")
    return " ".join(sentences) or "Nothing more is known."


def cure(verdict: Verdict) -> str:
    """What to do next; empty where nobody knows."""
    if verdict.rung is Rung.DIVERGED and verdict.first and verdict.first.channel == "graph":
        return MARKED
    if verdict.ending in CURES:
        return CURES[verdict.ending].format(scenario=verdict.scenario)
    return DIFFERENCE_CURES.get(verdict.first.reason, "") if verdict.first else ""


def diverged(verdict: Verdict) -> bool:
    """Whether `harness reproduce` can show it: a value differs, not only what is laid on values."""
    return verdict.rung is Rung.DIVERGED and verdict.first is not None and verdict.first.channel != "graph"


def first_line(first: Difference | None) -> str:
    """The first divergence in a few words, for a column of a table."""
    if first is None:
        return ""
    if first.reason != "value":
        return f"{first.channel}/{first.name}: {first.reason}"
    ulp = f", {first.ulp} ulp" if first.ulp >= 0 else ""
    return f"{first.channel}/{first.name}: abs {number(first.max_abs)}, rel {number(first.max_rel)}{ulp}"


def number(value: float) -> str:
    """Three significant digits; words for what is not finite."""
    return f"{value:.3g}" if math.isfinite(value) else str(value)


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 case, 2 cases."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def duration(seconds: float) -> str:
    """Seconds with one digit, minutes above two of them."""
    return f"{seconds:.1f} s" if seconds < 120 else f"{int(seconds // 60)} min {int(seconds % 60)} s"


def _no_noise(verdict: Verdict) -> str:
    """What an oracle said, where one was asked or could not be had; "" where a difference is plainly no rounding."""
    reason = verdict.why_not_higher.partition(NOT_NOISE)[2].split("\n")[0]
    return f"No noise: {reason}" if "float64" in reason else ""


def _module(verdict: Verdict) -> str:
    return f" in {verdict.module}" if verdict.module else ""


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
