"""Multi-token prediction again, token by token in float64 NumPy: walks along a row that stop where its segment does."""

from __future__ import annotations

import numpy as np


def walk(segments, at, steps):
    """The place `steps` tokens after `at` in one segment, or -1 where the segment ends before."""
    for _ in range(steps):
        if segments[at] == 0 or at + 1 == len(segments) or segments[at + 1] != segments[at]:
            return -1
        at += 1
    return at if segments[at] else -1


def ahead(values, segments, steps):
    result = np.zeros_like(values)
    for b, t in np.ndindex(*values.shape):
        found = walk(segments[b], t, steps)
        result[b, t] = values[b, found] if found >= 0 else 0
    return result


def terms(logits, own_logits, batch, factor, target):
    """logits [n][B, T, V] of the layers, own_logits [B, T, V] -> scaled loss, places, agreeing, judged; all summed."""
    loss = places = agreeing = judged = 0.0
    for k, layer in enumerate(logits, start=1):
        for b, t in np.ndindex(*batch.tokens.shape):
            found = walk(batch.segment_ids[b], t, k)
            if found < 0 or batch.target_segments[b, found] == 0:
                continue
            odds = np.exp(layer[b, t] - layer[b, t].max())
            loss -= factor * np.log(odds[batch.targets[b, found]] / odds.sum())
            places += 1
            if k == target:
                judged += 1
                agreeing += layer[b, t].argmax() == own_logits[b, found].argmax()
    return loss, places, agreeing, judged
