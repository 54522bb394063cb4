"""Causes in words."""

from __future__ import annotations

from collections.abc import Iterator

from harness.causes import Cause, Forced

__all__ = ["cause_text", "step_text"]

MOST = 5
"""Causes that are told in full."""

_WORDS = {
    "output": "its output differs{size} given equal inputs and equal submodules",
    "handing on": "what it hands to {seen} differs{size} given equal inputs",
    "backward": "the cotangents of its inputs differ{size} given an equal cotangent of its output and equal submodules",
    "handing back": "the cotangent that it hands back to {seen} differs{size} given equal cotangents",
    "leaf": "{seen} differs{size} though all modules have equal values and cotangents",
    "loss": "{seen} differs{size} though all modules have equal values and cotangents",
    "updates": "{seen} differs{size} though all modules have equal values and cotangents",
}


def cause_text(forced: Forced | None) -> str:
    """Where the divergence is born, what follows from it, and what could not be told; "" if nothing was tried."""
    return "; ".join(_phrases(forced)) if forced else ""


def _phrases(forced: Forced) -> Iterator[str]:
    more = [cause for cause in forced.causes if not cause.rounding]
    shown = more or list(forced.causes)
    for cause in shown[:MOST]:
        yield _told(cause)
    if len(shown) > MOST:
        yield f"and {_counted(len(shown) - MOST, 'more origin')}"
    if more and len(forced.causes) > len(more):
        yield f"{_counted(len(forced.causes) - len(more), 'place')} besides, by no more than roundings"
    if forced.causes and forced.consequences:
        verb = "differs" if forced.consequences == 1 else "differ"
        yield f"{_counted(forced.consequences, 'other module')} {verb} only by what they are given"
    if forced.note:
        yield f"origin not told: {forced.note}"
    elif not forced.causes:
        yield "origin not told: no module differs by itself"
    if forced.unpaired:
        names = ", ".join(forced.unpaired[:MOST]) + (" and more" if len(forced.unpaired) > MOST else "")
        yield f"not paired, so taken for their callers' own code: {names}"


def _told(cause: Cause) -> str:
    size = f" by {cause.size:.3g} where nothing is larger than {cause.top:.3g}" if cause.top else ""
    text = _WORDS[cause.ways[0]].format(seen=cause.seen, size=size)
    others = f", and so do {len(cause.others)} more like it" if cause.others else ""
    return f"origin: {cause.module} ({text}{', no more than roundings do' if cause.rounding else ''}{others})"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def step_text(step: tuple[int, int] | None) -> str:
    """ "first at step 3 of 5"; "" without steps."""
    return f"first at step {step[0]} of {step[1]}" if step else ""
