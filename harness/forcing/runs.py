"""Both sides watched, then the second one once more with the first one's values in its hands: where a difference is
born, and what only follows from it.

Runs are compiled, as those that are verified. The callbacks cut both programs at the same places, the borders of their
modules, so that what lies between two of them is fused alike: measured on train_step of `impl`, scanned and unscanned,
modules without a fault are equal bit by bit in a forced run. Run operation by operation, which would make sure of that,
the same case took more than three times as long. Where a difference is no larger than a few roundings of its dtype
(`harness.noise.room`), a cause says so, and none such is taken for certain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import jax

from harness.case import Case
from harness.causes import Cause, Forced
from harness.comparison import compare
from harness.forcing.handing import Handing
from harness.forcing.judging import Apart, causes, modules_apart
from harness.forcing.labels import Labels
from harness.forcing.leaves import with_leaves
from harness.forcing.pairing import Pairing, paired
from harness.forcing.same import same_modules
from harness.forcing.tape import Tape
from harness.forcing.watching import watched
from harness.observation import Observation
from harness.observe import performed
from harness.pair import Pair
from harness.randomness import Draws, recorded
from harness.replay import Keys, keys_of

__all__ = ["forced"]


def forced(pair: Pair, case: Case) -> Forced:
    """Where `case`, whose two runs differ, diverges; see the top of this module and `harness.causes`."""
    keys = keys_of((pair.sides[case.runs[0].side], pair.sides[case.runs[1].side]), case)
    try:
        found = _forced(_Runs(pair, case, keys))
        # What was compiled for one run serves the next: only if a whole function was kept, too, is nothing to be kept.
        return found if found is not None else _forced(_Runs(pair, case, keys, forget=jax.clear_caches)) or _FORGETFUL
    finally:
        jax.clear_caches()


_FORGETFUL = Forced(note="the second side does not make the same calls twice, so nothing can be handed to them")
_DRAWN = Forced(note="both sides draw with keys of their own: modules that draw differ, so nothing is handed to them")


@dataclass
class _Runs:
    """Runs of both sides, watched. forget: done before each run. draws: of each run that drew with its own keys."""

    pair: Pair
    case: Case
    keys: Keys
    forget: Callable[[], None] = lambda: None
    draws: list[Draws] = field(default_factory=list)

    def run(self, at: int, tape: Tape) -> Observation:
        run = self.case.runs[at]
        self.forget()
        with self.keys[at](), watched(tape), recorded() if self.case.draws == "own" else nullcontext(Draws()) as draws:
            found = performed(self.pair.sides[run.side], self.case, run)
        self.draws.append(draws)
        return found


def _forced(runs: _Runs) -> Forced | None:
    """None if the second side makes other calls when it is run again."""
    case, tapes = runs.case, (Tape(), Tape())
    jax.clear_caches()
    seen = [runs.run(at, tape) for at, tape in enumerate(tapes)]
    if failed := next((each for each in seen if each.error), None):
        return Forced(note=f"{failed.who} fails when it is watched: {_words(failed)}")
    if all(draws.ran for draws in runs.draws):
        return _DRAWN
    pairings = paired(*tapes, _same(runs.pair, case))
    alone = _alone(tapes, pairings)
    labels = Labels(tapes[0], case.weights)
    apart = modules_apart(tapes, pairings, labels, case.precision)
    if not pairings:
        return Forced(unpaired=alone, note="no module's calls on one side could be paired with the other's")
    if not apart and compare(seen[0], seen[1], case.allow).first is None:
        return Forced(unpaired=alone, note="the sides agree when they are watched")
    held = Tape(reply=Handing(*tapes, pairings), places=frozenset(p for each in pairings for p in each.right))
    last = runs.run(1, held)
    if last.error:
        return Forced(unpaired=alone, note=f"{last.who} fails with the other side's values: {_words(last)}")
    if [call.place for call in held.calls] != [call.place for call in tapes[1].calls]:
        return None
    still = modules_apart((tapes[0], held), pairings, labels, case.precision)
    found = with_leaves(causes(still), compare(seen[0], last, case.allow), seen[0], alone)
    return Forced(causes=tuple(found), consequences=_consequences(apart, found), unpaired=alone)


def _same(pair: Pair, case: Case) -> dict[tuple[str, ...], tuple[str, ...]]:
    first, second = case.runs
    return same_modules(pair.table(case.settings), (first.side, second.side)) if pair.table else {}


def _words(seen: Observation) -> str:
    return f"{seen.error.kind}: {seen.error.message}" if seen.error else ""


def _alone(tapes: tuple[Tape, Tape], pairings: Sequence[Pairing]) -> tuple[str, ...]:
    """What has no partner, but for further methods of modules that have one."""
    known = {path for each in pairings for path, _ in (*each.left, *each.right)}
    found = dict.fromkeys(place for tape in tapes for place, _ in tape.arrivals if place[0] not in known)
    return tuple(".".join(("/".join(path) or "model", method)).removesuffix(".__call__") for path, method in found)


def _consequences(apart: Sequence[Apart], found: Sequence[Cause]) -> int:
    own = {name for cause in found for name in (cause.module, *cause.others)}
    return len({each.label for each in apart} - own)
