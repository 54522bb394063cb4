"""Comparing encoded bytes on several threads: reading and comparing leave Python's lock alone."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor

from impl.checkpoint.comparison.decoding import Pair, Place
from impl.checkpoint.comparison.encoded import Encoded
from impl.checkpoint.leaves.leaf import Path
from impl.checkpoint.progress import Watch
from impl.checkpoint.storage.blocks import Blocks
from impl.checkpoint.storage.sides import Side

__all__ = ["differing_places"]

READERS = 2
"""Threads. Two read as fast as most disks and memories give."""

Found = dict[tuple[str, Path], frozenset[Place] | None]


def differing_places(pairs: Sequence[Pair], sides: tuple[Side, Side], watch: Watch) -> Found:
    """By part and path of each pair, the chunks whose encoded bytes differ; None where only decoding can tell.

    watch: told of bytes read, and of all bytes of the pairs on both sides. Raises CheckpointError, naming leaf and
    file, for bytes that are not there; the other threads stop then, as they do when the process is interrupted.
    """
    shares, total = _shares(pairs, sides)
    lock, stop = threading.Lock(), threading.Event()

    def told(count: int) -> None:
        if stop.is_set():
            raise CancelledError
        with lock:
            watch(count, total)

    def compared(share: Sequence[Pair]) -> Found:
        try:
            with Blocks(told) as blocks:
                encoded = Encoded(*sides, blocks)
                return {(pair.part, pair.path): encoded.differing(pair.left, pair.right) for pair in share}
        except BaseException:
            stop.set()
            raise

    with ThreadPoolExecutor(READERS) as pool:
        asked = [pool.submit(compared, share) for share in shares]
        try:
            problems = [each.exception() for each in asked]
        except BaseException:
            stop.set()
            raise
    for problem in problems:
        if problem is not None and not isinstance(problem, CancelledError):
            raise problem
    return {name: places for each in asked for name, places in each.result().items()}


def _shares(pairs: Sequence[Pair], sides: tuple[Side, Side]) -> tuple[list[list[Pair]], int]:
    """The pairs in parts of about equal bytes, what comes from one stored leaf in one of them, and bytes in all."""
    families: dict[Path, list[Pair]] = {}
    for pair in pairs:
        families.setdefault(pair.left.source, []).append(pair)
    shares: list[list[Pair]] = [[] for _ in range(READERS)]
    sizes = [0] * READERS
    for source, family in families.items():
        others = {pair.right.source for pair in family}
        size = sides[0].encoded_bytes(source) + sum(map(sides[1].encoded_bytes, others))
        least = sizes.index(min(sizes))
        shares[least] += family
        sizes[least] += size
    return shares, sum(sizes)
