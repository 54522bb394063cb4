"""Pairs of completions cut from real text: a common prefix, the text's own continuation, and one from elsewhere."""

from __future__ import annotations

import numpy as np

from impl.inputs import text

__all__ = ["PREFERENCE_FIELDS", "pairs"]

PREFERENCE_FIELDS = (
    *("chosen", "chosen_positions", "chosen_segments"),
    *("rejected", "rejected_positions", "rejected_segments"),
)

SHORTEST = 8
"""Tokens of the shortest rows that hold prefixes and completions of unequal lengths, and padding."""


def pairs(*, rows: int, length: int, steps: int, seed: int) -> dict[str, np.ndarray]:
    """`steps` batches of pairs: "step0/chosen"... int32 [rows, length] each, fields as in PREFERENCE_FIELDS.

    A row is one half of one pair: a prefix, from 2 tokens to half of the row, that its other half has too, then a
    completion, then padding (segment 0, position 0). The two completions part at their first token and are of unequal
    lengths, now the chosen one longer and now the rejected one. Raises ValueError for rows too short for that.
    """
    if length < SHORTEST:
        raise ValueError(f"length={length}: a pair of prefix, unequal completions and padding needs {SHORTEST} tokens")
    random = np.random.default_rng([seed, 3])
    values = {}
    for step in range(steps):
        made = [_pair(random, length, bool(row % 2)) for row in range(rows)]
        for index, field in enumerate(PREFERENCE_FIELDS):
            values[f"step{step}/{field}"] = np.stack([pair[index] for pair in made]).astype(np.int32)
    return values


def _pair(random: np.random.Generator, length: int, chosen_is_longer: bool) -> list[np.ndarray]:
    content = np.frombuffer(text(), np.uint8).astype(np.int32)
    prefix = int(random.integers(2, length // 2 + 1))
    short, long = np.sort(random.choice(np.arange(1, length - prefix), size=2, replace=False)).tolist()
    sizes = (long, short) if chosen_is_longer else (short, long)
    start = int(random.integers(0, len(content) - length))
    own = content[start + prefix :]
    elsewhere = np.flatnonzero(content[: len(content) - length] != own[0])
    other = content[int(random.choice(elsewhere)) :]
    halves = []
    for completion, size in zip((own, other), sizes, strict=True):
        filled = prefix + size
        fields = np.zeros((3, length), np.int32)
        fields[0, :filled] = np.concatenate([content[start : start + prefix], completion[:size]])
        fields[1, :filled], fields[2, :filled] = np.arange(filled), 1
        halves += list(fields)
    return halves
