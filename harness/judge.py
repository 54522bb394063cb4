"""From what was seen to a verdict: the rung that parity reached, what the golden says, and who moved.

Looked at in this order: refused by attestation; both runs failed with the same error; nothing was compared (an
error on one side only is a divergence, not this); then the rung of the parity: DIVERGED if anything differs that
nothing allows, ALLOWED if anything differs, else BITWISE.

Who moved (`Verdict.moved`), with a golden, from parity and from each side's drift:

    parity    left    right   moved
    equal     within  within  nobody
    equal     beyond  beyond  "both together", ending DRIFTED
    equal     one within, one beyond: the one beyond, ending DRIFTED (possible within an allowance)
    differs   within  beyond  the right side
    differs   beyond  within  the left side
    differs   beyond  beyond  "both apart"
    differs   within  within  the right side: the golden cannot tell, so the ruler is assumed; `detail` says so

Without a golden the ruler is assumed too. An error or a false claim on one side only names that side; a claim that is
false on both names "both together"; unless both have left the golden apart.

The ending of a case whose parity held: DRIFTED, else UNUSED ALLOWANCE, else what became of the golden (missing,
stale, tampered), which is also set when the parity did not hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.comparison import Comparison
from harness.difference import Difference, describe
from harness.observation import Attestation, Observation
from harness.verdict import Accepted, Ending, Rung, Verdict

__all__ = ["Evidence", "Held", "NotHeld", "judge"]


@dataclass(frozen=True, kw_only=True)
class Held:
    """Both runs were held against a golden: drift of the left and of the right from it (the golden is `left` there).

    accepted: how the golden came about, as far as it is known.
    """

    left: Comparison
    right: Comparison
    accepted: Accepted | None = None


@dataclass(frozen=True, kw_only=True)
class NotHeld:
    """No run was held against a golden. `ending` says that one was due (missing, stale, tampered), None that none was.

    because: one sentence: what to do about it, or why no golden was asked for.
    """

    because: str
    ending: Ending | None = None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that a verdict rests on. `refusal`: why attestation refuses the two runs, empty if it does not."""

    left: Observation
    right: Observation
    parity: Comparison
    golden: Held | NotHeld
    refusal: str = ""


@dataclass(frozen=True, kw_only=True)
class _Triangle:
    """Who moved, and a sentence where that is not plain."""

    moved: str
    sentence: str = ""


def judge(case: str, scenario: str, sides: tuple[str, str], evidence: Evidence) -> Verdict:
    """The verdict of one case; `sides` names the two runs, the ruler first.

    Endings, rungs and who moved are set out at the top of this module. Names that are equal (a relation within one
    side) are told apart as "first x" and "second x".
    """
    names = _names(sides)
    parity = evidence.parity
    if evidence.refusal:
        return _verdict(case, scenario, sides, evidence, ending=Ending.REFUSED, detail=evidence.refusal)
    left, right = evidence.left.error, evidence.right.error
    if left and right and (left.kind, left.message) == (right.kind, right.message):
        detail = f"both sides failed alike: {left.kind}: {left.message}"
        return _verdict(case, scenario, sides, evidence, ending=Ending.ERROR, detail=detail)
    if parity.compared == 0 and not left and not right:
        detail = "the two runs share no value, so there is nothing that could agree"
        return _verdict(case, scenario, sides, evidence, ending=Ending.NOTHING_COMPARED, detail=detail)
    triangle = _at_fault(names, evidence, _triangle(names, parity, evidence.golden))
    ending, sentences = _ending(parity, evidence.golden)
    return _verdict(
        case,
        scenario,
        sides,
        evidence,
        rung=_rung(parity),
        ending=ending,
        detail="; ".join(s for s in (triangle.sentence, *sentences) if s),
        moved=triangle.moved,
        why_not_higher=_why_not_higher(parity),
        parity=parity,
        first=parity.first,
    )


def _verdict(case: str, scenario: str, sides: tuple[str, str], evidence: Evidence, **reached: object) -> Verdict:
    """A verdict with all that it takes over from the two observations."""
    left, right, golden = evidence.left, evidence.right, evidence.golden
    attested: Mapping[str, Attestation | None] = dict(
        zip(_names(sides), (left.attestation, right.attestation), strict=True)
    )
    unasked = isinstance(golden, NotHeld) and golden.ending is None
    return Verdict(
        case=case,
        scenario=scenario,
        sides=sides,
        drift=(golden.left, golden.right) if isinstance(golden, Held) else (),
        accepted=golden.accepted if isinstance(golden, Held) else None,
        seconds=left.seconds + right.seconds,
        attestations={side: attestation for side, attestation in attested.items() if attestation is not None},
        environment=left.environment,
        case_digest=left.case_digest,
        not_compared={"golden": golden.because} if isinstance(golden, NotHeld) and unasked else {},
        **reached,  # type: ignore[arg-type]
    )


def _names(sides: tuple[str, str]) -> tuple[str, str]:
    return sides if sides[0] != sides[1] else (f"first {sides[0]}", f"second {sides[1]}")


def _rung(parity: Comparison) -> Rung:
    if parity.first is not None:
        return Rung.DIVERGED
    return Rung.ALLOWED if parity.differences else Rung.BITWISE


def _why_not_higher(parity: Comparison) -> str:
    if parity.first is not None:
        return f"not ALLOWED: {describe(parity.first)}"
    if parity.differences:
        first = parity.differences[0]
        granted = first.allowed_by
        reason = f'allowed by {granted.pattern!r} because "{granted.because}"' if granted else ""
        return f"not BITWISE: {describe(first)}, {reason}"
    return "not PROVED: no proof was attempted"


def _within(drift: Comparison) -> bool:
    return drift.first is None and drift.compared > 0


def _triangle(names: tuple[str, str], parity: Comparison, golden: Held | NotHeld) -> _Triangle:
    """Who moved, from the three comparisons; see `judge`."""
    left, right = names
    equal = parity.first is None
    if isinstance(golden, NotHeld):
        if equal:
            return _Triangle(moved="nobody")
        return _Triangle(moved=right, sentence=f"without a golden the ruler, {left}, is assumed not to have moved")
    match equal, _within(golden.left), _within(golden.right):
        case True, True, True:
            return _Triangle(moved="nobody")
        case True, False, False:
            return _Triangle(moved="both together", sentence=_beyond("both sides", golden.left))
        case False, False, False:
            return _Triangle(moved="both apart", sentence=_beyond(left, golden.left))
        case _, True, False:
            return _Triangle(moved=right, sentence=_beyond(right, golden.right))
        case _, False, True:
            return _Triangle(moved=left, sentence=_beyond(left, golden.left))
    sentence = f"both sides are within drift of the golden, so it cannot tell; the ruler, {left}, is assumed"
    return _Triangle(moved=right, sentence=sentence)


def _beyond(who: str, drift: Comparison) -> str:
    return f"{who} left the golden: {_words(drift.first)} (golden first)"


def _words(first: Difference | None) -> str:
    return describe(first) if first else "nothing could be compared with it"


def _at_fault(names: tuple[str, str], evidence: Evidence, triangle: _Triangle) -> _Triangle:
    """What an error on one side or false claims add: such a run proves nothing, whatever its values are near to."""
    errors = (evidence.left.error, evidence.right.error)
    if (errors[0] is None) != (errors[1] is None) and triangle.moved != "both apart":
        return _Triangle(moved=names[0 if errors[0] else 1], sentence="one side failed and the other did not")
    claims = [d for d in evidence.parity.differences if d.reason == "claim"]
    false = (any(d.left != "true" for d in claims), any(d.right != "true" for d in claims))
    if not any(false) or (triangle.moved == "both apart" and not all(false)):
        return triangle
    moved = "both together" if all(false) else names[false.index(True)]
    return _Triangle(moved=moved, sentence=describe(claims[0]))


def _ending(parity: Comparison, golden: Held | NotHeld) -> tuple[Ending | None, tuple[str, ...]]:
    """The ending beside the rung, and a sentence for each thing that is wrong beside parity."""
    found: list[tuple[Ending, str]] = []
    if parity.first is None:
        if isinstance(golden, Held) and not (_within(golden.left) and _within(golden.right)):
            found.append((Ending.DRIFTED, ""))
        if parity.unused:
            patterns = ", ".join(f'{a.pattern!r} ("{a.because}")' for a in parity.unused)
            found.append((Ending.UNUSED_ALLOWANCE, f"no value needed the allowance {patterns}: remove it"))
    if isinstance(golden, NotHeld) and golden.ending is not None:
        found.append((golden.ending, golden.because))
    return (found[0][0] if found else None), tuple(sentence for _, sentence in found)
