"""Where a divergence is born, as a forced re-run told it. Records only: no JAX here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Cause", "Forced", "Way"]

Way = Literal["output", "handing on", "backward", "handing back", "leaf", "loss", "updates"]
"""How a cause shows, everything that it is given being equal:

output: what the module gives back. handing on: what it gives to a module that it calls. backward: the cotangents of its
arguments. handing back: the cotangent that it gives to the output of a module that it calls. leaf: a gradient or a
state of its own. loss, updates: after the modules, with all that they return equal.
"""


@dataclass(frozen=True, kw_only=True)
class Cause:
    """One place at which the sides part although all that is given to it is equal, and all that its submodules return.

    module: as the neutral names spell it, or "model", "loss", "optimizer". ways: how it shows, the first one first.
    seen: the module called, where `ways` begins with handing on or back; the leaf, where it begins with one; else "".
    others: further modules of the same path but for numbers (the same mistake in other layers).
    size, top: the largest difference there, and the largest value. rounding: whether that is no more than roundings.
    """

    module: str
    ways: tuple[Way, ...]
    seen: str
    others: tuple[str, ...]
    size: float
    top: float
    rounding: bool


@dataclass(frozen=True, kw_only=True)
class Forced:
    """What came of handing the second side the first side's values, call by call.

    causes: in the order in which they happen. consequences: how many other modules differed before anything was handed
    over, and only because of what they are given. unpaired: calls of modules that only one side makes; they count as
    their caller's own code. note: one sentence: why there is no cause, or what limits it; "" if nothing does.
    """

    causes: tuple[Cause, ...] = ()
    consequences: int = 0
    unpaired: tuple[str, ...] = ()
    note: str = ""

    @property
    def certain(self) -> str:
        """The module of the only cause that is more than rounding; "" if there is none or more than one."""
        found = [cause for cause in self.causes if not cause.rounding]
        return found[0].module if len(found) == 1 else ""
