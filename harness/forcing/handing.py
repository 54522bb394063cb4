"""The first side's values, put in the place of the second's while it runs. No JAX here."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from harness.forcing.pairing import Pairing, Together, key, streams
from harness.forcing.tape import STREAMS, Arrays, Place, Stream, Tape

__all__ = ["Handing"]


class Handing:
    """What a forced run is handed, as the reply of its tape: arrival after arrival, or value by value."""

    def __init__(self, left: Tape, right: Tape, pairings: Sequence[Pairing]):
        self._known: dict[tuple[Place, Stream], tuple[int, Together]] = {}
        for number, pairing in enumerate(pairings):
            for stream in STREAMS:
                if together := streams(left, right, pairing, stream):
                    self._known.update({(place, stream): (number, together) for place in pairing.right})
        self._seen: dict[tuple[int, Stream], dict[Hashable, int]] = {}

    def __call__(self, place: Place, stream: Stream, values: Arrays) -> Arrays:
        if (place, stream) not in self._known:
            return values
        number, together = self._known[place, stream]
        seen = self._seen.setdefault((number, stream), {})
        at = seen.setdefault(key(values) if together.by_value else len(seen), len(seen))
        if at >= len(together.left):
            return values
        theirs, given = together.left[at].values, list(values)
        for ours, own in together.leaves.items():
            if max(ours - len(theirs), own - len(given)) < 0 and theirs[ours].shape == given[own].shape:
                given[own] = theirs[ours].astype(given[own].dtype)
        return tuple(given)
