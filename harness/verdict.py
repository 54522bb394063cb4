"""What was reached on the ladder, who moved, and where first. No I/O here, and no JAX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from harness.causes import Forced
from harness.comparison import Comparison, Difference
from harness.noise import Measured
from harness.observation import Attestation, Environment
from harness.proof import Proven

__all__ = ["Accepted", "Ending", "Rung", "Verdict", "exit_code"]


class Rung(StrEnum):
    """The ladder, best first. PROVED and WITHIN NOISE are reached by proof and by an oracle, never by a tolerance."""

    PROVED = "PROVED"
    BITWISE = "BITWISE"
    WITHIN_NOISE = "WITHIN NOISE"
    ALLOWED = "ALLOWED"
    DIVERGED = "DIVERGED"


class Ending(StrEnum):
    """Ways to end without a verdict on the ladder; never folded into one."""

    NOTHING_COMPARED = "NOTHING COMPARED"
    MISSING_GOLDEN = "MISSING GOLDEN"
    STALE_GOLDEN = "STALE GOLDEN"
    TAMPERED_GOLDEN = "TAMPERED GOLDEN"
    DRIFTED = "DRIFTED FROM GOLDEN"
    UNUSED_ALLOWANCE = "UNUSED ALLOWANCE"
    REFUSED = "REFUSED"
    NONDETERMINISTIC = "NONDETERMINISTIC"
    ERROR = "ERROR"
    TIMEOUT = "TIMEOUT"
    OUT_OF_MEMORY = "OUT OF MEMORY"
    SKIPPED = "SKIPPED"


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """What the golden says of how it came about, as far as it was held against this case.

    graphs: part of the program ("train/step") -> digest of what the ruler compiled; {} in goldens that record none.
    environment: that it was accepted in. rounded: whether all that drifted beyond are floats that kept half of their
        digits.
    """

    graphs: Mapping[str, str]
    environment: Environment
    rounded: bool


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The judgement of one case.

    rung: reached on the ladder by the parity of the two runs; None if no comparison was possible.
    ending: set when the case ended otherwise, or when parity held but the golden did not; a case passes only
        with a rung better than DIVERGED and no ending.
    moved: "nobody", a side's name, "both together" or "both apart": the triangle of the two sides and the golden.
    first: the first divergence. module: the module path it is placed at ("decoder/layers/1/mlp"), if it was located.
    why_not_higher: one sentence: why the rung above was not reached.
    not_compared: channel or program -> reason.
    step: (the first step whose values differ, of how many), counted from 1, where the runs make more than one.
    forced: where the divergence is born and what only follows, if that was tried; see `harness.forcing`.
    noise: what differs, held against float64, if that was done.
    proofs: of what both sides compile, part by part; () if none could be attempted.
    accepted: how the golden came about, None if there was none to hold against. since_golden: one sentence: whether
        the graph or the toolchain moved since then.
    """

    case: str
    scenario: str
    sides: tuple[str, str]
    rung: Rung | None = None
    ending: Ending | None = None
    detail: str = ""
    moved: str = "nobody"
    first: Difference | None = None
    module: str = ""
    why_not_higher: str = ""
    parity: Comparison | None = None
    drift: tuple[Comparison, ...] = ()
    seconds: float = 0.0
    attestations: Mapping[str, Attestation] = field(default_factory=dict)
    environment: Environment | None = None
    case_digest: str = ""
    not_compared: Mapping[str, str] = field(default_factory=dict)
    proofs: tuple[Proven, ...] = ()
    noise: tuple[Measured, ...] = ()
    step: tuple[int, int] | None = None
    forced: Forced | None = None
    accepted: Accepted | None = None
    since_golden: str = ""

    @property
    def passed(self) -> bool:
        """Whether this case lets the flag be flipped."""
        return self.ending is None and self.rung is not None and self.rung is not Rung.DIVERGED


GOLDEN_ENDINGS = frozenset({Ending.MISSING_GOLDEN, Ending.STALE_GOLDEN, Ending.TAMPERED_GOLDEN})

RUN_ENDINGS = frozenset({Ending.ERROR, Ending.TIMEOUT, Ending.OUT_OF_MEMORY})


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """What a process that reached these verdicts exits with.

    1: some case says that the flag must not be flipped (diverged, drifted, refused, nothing compared, an allowance too
       many...), or every case was skipped, or there is none: nothing was compared.
    4: else, if a run itself failed (error, timeout, out of memory).
    3: else, if a golden is missing, stale or tampered with.
    0: else. Skipped cases count for nothing.

    2 (bad usage) is not a verdict's to give.
    """
    judged = {_code(verdict) for verdict in verdicts if verdict.ending is not Ending.SKIPPED}
    return next((code for code in (1, 4, 3, 0) if code in judged), 1)


def _code(verdict: Verdict) -> int:
    if verdict.passed:
        return 0
    if verdict.rung is Rung.DIVERGED:
        return 1
    if verdict.ending in RUN_ENDINGS:
        return 4
    return 3 if verdict.ending in GOLDEN_ENDINGS else 1
