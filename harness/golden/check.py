"""Holds an observation against a loaded golden, sampled arrays included."""

from __future__ import annotations

import math
from dataclasses import replace

import ml_dtypes
import numpy as np

from harness.comparison import Comparison
from harness.difference import Difference
from harness.distance import family
from harness.drift import Place, drift_allowance, drift_compare, drift_compare_scaled, scale
from harness.golden.entry import Entry, digest_of, entry_of, places, sample
from harness.golden.store import Loaded, Missing, Stale, Tampered
from harness.judge import Held, NotHeld
from harness.observation import Observation, Values
from harness.resources import RESOURCES
from harness.verdict import Accepted, Ending

__all__ = ["drift_from", "held"]

ENDINGS = {Missing: Ending.MISSING_GOLDEN, Stale: Ending.STALE_GOLDEN, Tampered: Ending.TAMPERED_GOLDEN}


def held(golden: Loaded | Missing | Stale | Tampered, left: Observation, right: Observation) -> Held | NotHeld:
    """Both runs of a case held against their golden, as `harness.judge.judge` wants it."""
    if isinstance(golden, Loaded):
        drifts = drift_from(golden, left), drift_from(golden, right)
        rounded = all(_rounded(drift, seen) for drift, seen in zip(drifts, (left, right), strict=True))
        accepted = Accepted(graphs=golden.graphs, environment=golden.observation.environment, rounded=rounded)
        return Held(left=drifts[0], right=drifts[1], accepted=accepted)
    return NotHeld(because=golden.sentence, ending=ENDINGS[type(golden)])


def drift_from(golden: Loaded, observation: Observation) -> Comparison:
    """The drift of an observation from its golden (left), as `harness.drift.drift_compare` measures it.

    A sampled array whose digest agrees is equal. If it does not, the sample is compared element by element, and
    minimum, maximum and number of non-finite elements of the whole; it is a difference even if its sample is not.
    """
    if not golden.sampled:
        return drift_compare(golden.observation, observation)
    ours: dict[str, dict[str, np.ndarray]] = {c: dict(v) for c, v in golden.observation.channels.items()}
    theirs: dict[str, Values] = dict(observation.channels)
    moved: dict[Place, np.ndarray] = {}
    for (channel, name), entry in golden.sampled.items():
        value = observation.channels.get(channel, {}).get(name)
        whole = _stand_in(entry)
        if value is not None and digest_of(value) == entry.sha256:
            whole = np.asarray(value)
        elif value is not None and _alike(np.asarray(value), whole):
            moved[channel, name] = np.asarray(value)
            theirs[channel] = {**theirs[channel], name: sample(value, entry.sampled)}
            continue
        ours[channel][name] = whole
    scales = {place: _largest(golden.sampled[place]) for place in moved}
    accepted, seen = replace(golden.observation, channels=ours), replace(observation, channels=theirs)
    rough = drift_compare_scaled(accepted, seen, scales)
    return _with_samples(rough, golden, moved, observation.precision)


def _rounded(drift: Comparison, seen: Observation) -> bool:
    """Whether all that lies beyond drift are floats that kept half of the digits of their channel's largest value.

    How much a compiled program needs is the compiler's affair altogether.
    """
    beyond = [difference for difference in drift.differences if difference.allowed_by is None]
    values = all(difference.reason == "value" for difference in beyond)
    return values and all(each.channel == RESOURCES or each.max_abs <= _half(seen, each) for each in beyond)


def _half(seen: Observation, difference: Difference) -> float:
    """What half of the digits of the channel's largest value are worth, as exact as the run computed; -1 if no float.

    Of the channel and not of the value itself, whose true value may be 0.
    """
    values = seen.channels[difference.channel]
    dtype = np.asarray(values[difference.name]).dtype
    if family(dtype) != "float":
        return -1.0
    epsilons = [float(ml_dtypes.finfo(each).eps) for each in (dtype.name, seen.precision or dtype.name)]
    return math.sqrt(max(epsilons)) * max(scale(value) for value in values.values() if family(value.dtype) == "float")


def _stand_in(entry: Entry) -> np.ndarray:
    """An array of the whole's shape and dtype without its memory: enough to see another shape or dtype."""
    dtype = np.dtype("U1") if entry.dtype == "text" else np.dtype(entry.dtype)
    return np.broadcast_to(np.zeros((), dtype), entry.shape)


def _alike(value: np.ndarray, whole: np.ndarray) -> bool:
    text = value.dtype.kind == whole.dtype.kind == "U"
    return value.shape == whole.shape and (text or value.dtype == whole.dtype)


def _with_samples(rough: Comparison, golden: Loaded, moved: dict[Place, np.ndarray], precision: str) -> Comparison:
    """The comparison with what only the header knows of the arrays whose digest differs, in the same order."""
    found, counts = {(d.channel, d.name): d for d in rough.differences}, dict(rough.channels)
    for place, value in moved.items():
        entry, seen = golden.sampled[place], found.get(place)
        extremes = _extremes(place, entry, entry_of(value), precision)
        if seen is None:
            counts[place[0]] = replace(counts[place[0]], differing=counts[place[0]].differing + 1)
        if seen is None or (extremes.allowed_by is None and seen.allowed_by is not None):
            found[place] = extremes
        elif seen.where:
            flat = np.unravel_index(places(value.size, entry.sampled)[seen.where[0]], entry.shape)
            found[place] = replace(seen, where=tuple(int(i) for i in flat))
    ranks = {channel: rank for rank, channel in enumerate(rough.channels)}
    forward = [(channel, name) for channel, values in golden.observation.channels.items() for name in values]
    positions = {place: position for position, place in enumerate(forward)}
    errors = [d for d in rough.differences if d.reason == "error"]
    rest = [d for d in found.values() if d.reason != "error"]
    # The sort is stable, so names that the golden lacks stay where compare put them: at the end of their channel.
    rest.sort(key=lambda d: (ranks[d.channel], positions.get((d.channel, d.name), len(positions))))
    return replace(rough, channels=counts, differences=(*errors, *rest))


def _largest(entry: Entry) -> float:
    """The largest finite |element| of the whole array."""
    return 0.0 if entry.low is None else max(abs(float(entry.low)), abs(float(entry.high)))


def _extremes(place: Place, golden: Entry, seen: Entry, precision: str) -> Difference:
    """The difference of two arrays whose digests differ, as far as their extremes tell. Drift of every element bounds
    that of the smallest and of the largest one, so these must be within drift as well."""
    words = [f"min {e.low} max {e.high}, {e.nonfinite} not finite, sha256 {e.sha256}" for e in (golden, seen)]
    channel, name = place
    plain = Difference(channel=channel, name=name, reason="value", left=words[0], right=words[1])
    if golden.dtype == "text":
        return replace(plain, reason="text")
    if golden.nonfinite != seen.nonfinite:
        return replace(plain, reason="nonfinite")
    if golden.low is None or seen.low is None:
        return plain
    room = drift_allowance(f"{channel}/{name}", np.dtype(golden.dtype), _largest(golden), precision)
    gap = max(abs(float(golden.low) - float(seen.low)), abs(float(golden.high) - float(seen.high)))
    size = max(_largest(golden), _largest(seen))
    within = room is not None and gap <= room.atol + room.rtol * size
    return replace(plain, max_abs=gap, max_rel=gap / size if size else 0.0, allowed_by=room if within else None)
