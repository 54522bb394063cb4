"""Whether watching a program has left it as it was: its graphs, lowered again, or what it gives when run again."""

from __future__ import annotations

from collections.abc import Mapping

from harness.case import Case
from harness.comparison import compare
from harness.difference import Difference, describe
from harness.observation import Observation
from harness.pair import Pair
from harness.replay import observed

__all__ = ["digests", "disturbed"]

Digests = Mapping[tuple[str, str, str], str]
"""(run, program, part) -> digest of what it compiles."""


def digests(pair: Pair, case: Case) -> Digests:
    """What both runs of `case` compile, as `harness.graph.digest` names it; {} if not all of it can be named."""
    import jax

    from harness.graph.digest import digest

    found: dict[tuple[str, str, str], str] = {}
    jax.clear_caches()
    for which, run in zip(("first", "second"), case.runs, strict=True):
        try:
            parts = pair.sides[run.side].graphs({**case.settings, **run.settings}).get(run.program, {})
            made = {part: digest(lower()) for part, lower in parts.items()}
        except Exception:  # whatever the code base raises while it is traced: it is then run again instead
            return {}
        if not made or not all(made.values()):
            return {}
        found |= {(f"{which} run, {run.side}", run.program, part): name for part, name in made.items()}
    return found


def disturbed(pair: Pair, case: Case, before: Digests, runs: tuple[Observation, Observation]) -> str:
    """What is no longer as it was when `before` was taken and `runs` were made; "" if nothing is."""
    if before:
        after = digests(pair, case)
        changed = [key for key in before if after.get(key) != before[key]]
        # What lowers to yet another graph when nobody watches changes by itself: that is no doing of the watching.
        if changed and digests(pair, case) == after:
            run, program, part = changed[0]
            return f"watching changed the graph of {program}/{part} ({run}): what was seen through it proves nothing"
        return ""
    sides = pair.sides[case.runs[0].side], pair.sides[case.runs[1].side]
    again = observed(sides, case)
    other = [(old.who, first) for old, new in zip(runs, again, strict=True) if (first := _apart(old, new))]
    # As above: what gives yet something else when nobody watches changes by itself.
    if other and not any(_apart(old, new) for old, new in zip(again, observed(sides, case), strict=True)):
        who, first = other[0]
        return f"{who} gives something else after it was watched: {describe(first)} (before and after)"
    return ""


def _apart(old: Observation, new: Observation) -> Difference | None:
    """What differs first between two runs of one program; None if nothing does."""
    if old.error and new.error:
        return None  # whose words may name a folder or an address of their own
    first = compare(old, new, ()).first
    return first if first and (first.reason != "claim" or first.left != first.right) else None
