"""Place a divergence: at a module, from taps of every module's output or from which gradients differ; else at a part
of the train step."""

from __future__ import annotations

from harness.case import Case
from harness.comparison import Comparison, compare
from harness.difference import Difference
from harness.observe import observe
from harness.pair import Pair
from harness.scenario import Run

__all__ = ["LOSS", "MODEL", "OPTIMIZER", "TAPS", "born", "locate"]

TAPS = "taps"
"""The program that returns the output of every module, in forward order, in the channel "intermediates"."""

MODEL, LOSS, OPTIMIZER = "model", "loss", "optimizer"
"""Places that are no module's: around the whole model (its mode, its inputs), after it, and after the gradients."""

_DECLARED = ("structure", "shardings")


def locate(pair: Pair, case: Case, parity: Comparison) -> str:
    """Where `case` first diverges: a module path, MODEL, LOSS or OPTIMIZER, or "" if that cannot be told.

    Forward first: the first module, in forward order, whose output differs. If every output agrees, the divergence is
    born later, and the first of these that applies says where:

    declared (structure, shardings): at the first leaf that differs.
    gradients: a backward pass spreads a divergence from a module to those before it, so the last parameter in forward
        order whose gradient differs belongs to the origin. If every gradient differs, the backward pass was wrong from
        its start: LOSS, or without taps MODEL.
    updates, the gradients being equal: at the module that they have in common, or else OPTIMIZER.
    state (a cache): at the first leaf that differs. loss alone: LOSS. outputs alone: MODEL.
    """
    taps = _taps(pair, case)
    if taps and taps.first and taps.first.channel == "intermediates":
        return taps.first.name
    return born(parity, after=LOSS if taps else MODEL)


def born(parity: Comparison, after: str) -> str:
    """As `locate` where every module's output agrees. after: what to call the start of the backward pass."""
    differing = [item for item in parity.differences if item.allowed_by is None and item.reason not in _NOT_VALUES]
    found = {channel: [d for d in differing if d.channel == channel] for channel in parity.channels}
    for channel in _DECLARED:
        if found.get(channel):
            return _module(found[channel][0].name)
    if found.get("gradients"):
        everywhere = len(found["gradients"]) == parity.channels["gradients"].expected > 1
        return after if everywhere else _module(found["gradients"][-1].name)
    if found.get("updates"):
        return _common(found["updates"])
    if found.get("state"):
        return _module(found["state"][0].name)
    return LOSS if found.get("loss") else MODEL if found.get("outputs") else ""


_NOT_VALUES = ("error", "claim")


def _common(updates: list[Difference]) -> str:
    """The module that all differing updates belong to, if there is one. Slots end with their parameter's name."""
    modules = {_module(item.name) for item in updates}
    shortest = min(modules, key=len)
    alike = shortest and all(module == shortest or module.endswith(f"/{shortest}") for module in modules)
    return shortest if alike else OPTIMIZER


def _taps(pair: Pair, case: Case) -> Comparison | None:
    """Every module's output on one side against the other's; None if a side cannot tell."""
    if any(TAPS not in pair.sides[run.side].programs for run in case.runs):
        return None
    left, right = (
        observe(pair.sides[run.side], case, Run(side=run.side, program=TAPS, settings=run.settings))
        for run in case.runs
    )
    return None if left.error or right.error else compare(left, right, case.allow)


def _module(name: str) -> str:
    """The module that holds the leaf `name`: a slot's or gradient's leaf name without its last part."""
    return name.rpartition("/")[0]
