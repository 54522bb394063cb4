"""What a run's evidence says, and why two runs may not be compared."""

from __future__ import annotations

from harness.observation import Attestation, Observation
from harness.pair import Side
from harness.witness import Witness

__all__ = ["as_declared", "attest", "refusal"]


def attest(witness: Witness, config_digest: str) -> Attestation:
    """What `witness` found, as a record."""
    frameworks = sorted({framework for framework, _ in witness.found})
    modules = {name: tuple(sorted(cls for framework, cls in witness.found if framework == name)) for name in frameworks}
    own = tuple(sorted({cls for _, cls in witness.found if not cls.startswith("flax.")}))
    return Attestation(modules=modules, own=own, config_digest=config_digest)


def refusal(sides: tuple[Side, Side], left: Observation, right: Observation) -> str:
    """Why these two observations may not be compared, or "" if they may.

    Each side must have traced modules of exactly the frameworks it declares; two different sides must not have traced
    the same classes of the code base's own; both must come from one configuration.
    """
    for side, seen in zip(sides, (left, right), strict=True):
        reason = _misrouted(side, seen)
        if reason:
            return reason
    first, second = left.attestation, right.attestation
    if first is None or second is None or sides[0].name == sides[1].name:
        return ""
    if first.config_digest != second.config_digest:
        return f"{left.who} ran configuration {first.config_digest[:12]}, {right.who} {second.config_digest[:12]}"
    if first.own and set(first.own) == set(second.own) and set(first.modules) == set(second.modules):
        return (
            f"{left.who} and {right.who} traced the same implementation ({', '.join(first.own[:4])}): comparing it "
            "with itself proves nothing. Point one of them at the other implementation"
        )
    return ""


def as_declared(side: Side, seen: Observation) -> bool:
    """Whether a run that ended well traced modules of exactly the frameworks that its side declares."""
    if seen.error is not None or seen.attestation is None or not side.frameworks:
        return True
    return frozenset(seen.attestation.modules) == side.frameworks


def _misrouted(side: Side, seen: Observation) -> str:
    if as_declared(side, seen) or seen.attestation is None:
        return ""
    traced = frozenset(seen.attestation.modules)
    wanted, got = " and ".join(sorted(side.frameworks)), " and ".join(sorted(traced)) or "no Flax module at all"
    classes = ", ".join(seen.attestation.own[:4])
    return (
        f"side {side.name} declares {wanted}, but {seen.program} traced {got}"
        + (f" ({classes})" if classes else "")
        + ": the run went elsewhere than it says. Check what the flags select"
    )
