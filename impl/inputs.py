"""Batches cut from real text that every Python installation carries, packed into segments with padding.

The text is two standard-library sources that have not changed since Python 3.9 (`this`, `antigravity`) and the Zen of
Python that the first one hides: the same bytes, hence the same batches, on every interpreter that is supported.
"""

from __future__ import annotations

import codecs
import functools
import hashlib
import importlib.util
from pathlib import Path

import numpy as np

__all__ = ["FIELDS", "TextError", "batches", "prompts", "text", "unweighted"]

FIELDS = ("tokens", "positions", "segment_ids", "targets", "target_segments")

SHORTEST = 6
"""Tokens of the shortest row that can be cut into three segments and padding."""

_DIGEST = "481d0cb3"
"""First digits of the SHA-256 of `this.py`: if an interpreter ships another text, goldens would be stale everywhere."""


class TextError(RuntimeError):
    """This interpreter does not carry the text that batches are cut from."""


@functools.cache
def text() -> bytes:
    """About 2.3 kB of text as bytes. Raises TextError if the standard library's sources are missing or changed."""
    sources = []
    for name in ("this", "antigravity"):
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.origin or not Path(spec.origin).is_file():
            raise TextError(f"the source of the standard library's module {name!r} is missing: install it with Python")
        sources.append(Path(spec.origin).read_bytes().replace(b"\r\n", b"\n"))
    found = hashlib.sha256(sources[0]).hexdigest()[: len(_DIGEST)]
    if found != _DIGEST:
        raise TextError(f"this.py has digest {found}, expected {_DIGEST}: batches would differ from the goldens'")
    zen = codecs.decode(sources[0].decode().split('"""')[1], "rot13").encode()
    return zen + sources[0] + sources[1]


def batches(
    *, rows: int, length: int, steps: int, seed: int, offset: int = 0, stride: int = 1
) -> dict[str, np.ndarray]:
    """`steps` packed batches: "step0/tokens"... int32 [rows, length] each, fields as in FIELDS.

    A row holds two or three segments cut at random, then padding (segment 0): rows seldom weigh the same.
    Positions restart in each segment and lie `stride` apart: where that is 1, rotations tell them from places in a row
    by nothing but roundings. Those of every second row begin at `offset`, to reach far along the rotation.
    Targets are the next tokens of the same segment; the last of a segment has weight 0.
    Raises ValueError for rows too short to be cut.
    """
    if length < SHORTEST:
        raise ValueError(f"length={length}: a row of three segments and padding needs at least {SHORTEST} tokens")
    random = np.random.default_rng([seed, 1])
    values = {}
    for step in range(steps):
        made = [_row(random, length, (offset if row % 2 else 0, stride)) for row in range(rows)]
        for index, field in enumerate(FIELDS):
            values[f"step{step}/{field}"] = np.stack([row[index] for row in made]).astype(np.int32)
    return values


def unweighted(made: dict[str, np.ndarray], every: tuple[int, int]) -> dict[str, np.ndarray]:
    """Rows start, start + step... of every batch without weight, as a microbatch that holds padding only."""
    start, step = every
    result = {name: value.copy() for name, value in made.items()}
    for name, value in result.items():
        if name.endswith("/target_segments"):
            value[start::step] = 0
    return result


def _row(random: np.random.Generator, length: int, spread: tuple[int, int]) -> list[np.ndarray]:
    content, (offset, stride) = text(), spread
    row = [np.zeros(length, np.int32) for _ in FIELDS]
    tokens, positions, segments, targets, target_segments = row
    at, filled = 0, length - int(random.integers(1, max(2, length // 4)))
    parts = int(random.integers(2, 4))
    cuts = np.sort(random.choice(np.arange(2, filled - 1), size=parts - 1, replace=False))
    for segment, end in enumerate([*cuts.tolist(), filled], start=1):
        size = end - at
        start = int(random.integers(0, len(content) - size - 1))
        piece = np.frombuffer(content[start : start + size], np.uint8).astype(np.int32)
        tokens[at:end], segments[at:end] = piece, segment
        positions[at:end] = np.arange(size) * stride + offset
        targets[at : end - 1], target_segments[at : end - 1] = piece[1:], segment
        at = end
    return row


def prompts(*, count: int, longest: int, seed: int) -> list[np.ndarray]:
    """`count` prompts of unequal lengths up to `longest`, int32, at least two tokens each."""
    random, content = np.random.default_rng([seed, 2]), text()
    result = []
    for index in range(count):
        size = max(2, longest - index)
        start = int(random.integers(0, len(content) - size))
        result.append(np.frombuffer(content[start : start + size], np.uint8).astype(np.int32))
    return result
