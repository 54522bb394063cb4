"""One value that is not the same on both sides: found, measured and put into words. NumPy only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from harness.allowance import Allowance
from harness.distance import family, same_bits, same_nonfinite, spread
from harness.observation import Values

__all__ = ["Difference", "Reason", "Room", "describe", "find"]

Reason = Literal["missing", "extra", "dtype", "shape", "text", "nonfinite", "value", "error", "claim"]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One value that is not the same on both sides.

    left, right: what each side has, as short text (a number at the worst place, a shape, a dtype, a message).
    where: index of the worst element. max_abs, max_rel: the tolerances that would have been needed. ulp: largest
    distance in units of the last place of the dtype (float dtypes only; -1 where it has no meaning).
    """

    channel: str
    name: str
    reason: Reason
    left: str
    right: str
    where: tuple[int, ...] = ()
    max_abs: float = 0.0
    max_rel: float = 0.0
    ulp: int = -1
    allowed_by: Allowance | None = None


Room = Callable[[str, str], Allowance | None]
"""(channel, name) -> the allowance that speaks about a value that differs, or None. Asked for nothing else."""


def describe(difference: Difference) -> str:
    """A difference in words, for reports: "outputs/logits differs at [1, 4]: 0.25 and 0.5, max abs 0.25, ..."."""
    name, values = f"{difference.channel}/{difference.name}", f"{difference.left} and {difference.right}"
    place = f" at {list(difference.where)}" if difference.where else ""
    match difference.reason:
        case "missing" | "extra":
            side = "right" if difference.reason == "missing" else "left"
            return f"{name} is absent on the {side}: {values}"
        case "value":
            ulp = f", {difference.ulp} ulp" if difference.ulp >= 0 else ""
            size = f"max abs {difference.max_abs:.3g}, max rel {difference.max_rel:.3g}{ulp}"
            return f"{name} differs{place}: {values}, {size}"
        case "claim":
            return f"the claim {name!r} does not hold: {values}"
        case _:
            return f"{name} differs in {difference.reason}{place}: {values}"


def find(channel: str, name: str, left: Values, right: Values, room: Room) -> Difference | None:
    """The difference between the two values of one name of a channel, or None; `harness.comparison.compare` says how.

    Raises TypeError for a dtype that cannot be compared (object, datetime, record).
    """

    def differs(reason: Reason, ours: str, theirs: str, **more: Any) -> Difference:
        return Difference(channel=channel, name=name, reason=reason, left=ours, right=theirs, **more)

    if name not in right:
        return differs("missing", _kind(left[name]), "absent")
    if name not in left:
        return differs("extra", "absent", _kind(right[name]))
    a, b = np.asarray(left[name]), np.asarray(right[name])
    if channel == "claims":
        return None if _holds(a) == _holds(b) == "true" else differs("claim", _holds(a), _holds(b))
    text = a.dtype.kind == b.dtype.kind == "U"
    if a.dtype != b.dtype and not text:
        return differs("dtype", str(a.dtype), str(b.dtype))
    if a.shape != b.shape:
        return differs("shape", str(list(a.shape)), str(list(b.shape)))
    if same_bits(a, b):
        return None
    if family(a.dtype) == "text":
        place = int(np.argmax((a != b).reshape(-1)))
        return differs("text", *_excerpts(str(a.flat[place]), str(b.flat[place])), where=_index(place, a))
    place = same_nonfinite(a, b)
    if place >= 0:
        return differs("nonfinite", str(a.flat[place]), str(b.flat[place]), where=_index(place, a))
    return _value_difference(differs, a, b, room(channel, name))


def _value_difference(
    differs: Callable[..., Difference], a: np.ndarray, b: np.ndarray, allowance: Allowance | None
) -> Difference:
    """The difference of two arrays whose bits are not the same, judged by `allowance` if there is one."""
    far = spread(a, b, allowance.rtol if allowance else 0.0, allowance.atol if allowance else 0.0)
    return differs(
        "value",
        str(a.flat[far.worst]),
        str(b.flat[far.worst]),
        where=_index(far.worst, a),
        max_abs=far.max_abs,
        max_rel=far.max_rel,
        ulp=far.ulp,
        allowed_by=allowance if far.within else None,
    )


def _index(place: int, array: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(place, array.shape))


def _kind(array: np.ndarray) -> str:
    return f"{np.asarray(array).dtype}{list(np.shape(array))}"


def _holds(claim: np.ndarray) -> str:
    """ "true", "false", or what stands there instead of a 0-d bool."""
    if claim.shape or claim.dtype != np.bool_:
        return f"not a claim: {_kind(claim)}"
    return "true" if claim else "false"


def _excerpts(left: str, right: str) -> tuple[str, str]:
    """Both texts from a little before the first character that differs."""
    same = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
    start = max(0, same - 12)
    ours, theirs = (
        f"{'…' if start else ''}{text[start : start + 48]}{'…' if len(text) > start + 48 else ''}"
        for text in (left, right)
    )
    return repr(ours), repr(theirs)
