"""Direct preference optimisation again, in float64 NumPy and as loops, from arXiv 2305.18290 and its authors' notes.

Label smoothing is the conservative loss of E. Mitchell's note: cross entropy against the label with probability 1 - s.
"""

from __future__ import annotations

import math

import numpy as np


def masks(tokens, segments):
    """Two (chosen, rejected) of [B, T] -> two [B, T - 1]: walks along both rows until they part."""
    found = [np.zeros((len(half), half.shape[1] - 1), bool) for half in tokens]
    for row in range(len(tokens[0])):
        parted = False
        for at in range(tokens[0].shape[1]):
            there = [bool(half[row, at]) for half in segments]
            parted = parted or tokens[0][row, at] != tokens[1][row, at] or there[0] != there[1]
            for half in (0, 1):
                if at and parted and there[half]:
                    found[half][row, at - 1] = True
    return found


def logps(logits, tokens, mask):
    result = np.zeros(len(tokens))
    for row, at in np.argwhere(mask):
        scores = logits[row, at]
        odds = np.exp(scores - scores.max())
        result[row] += math.log(odds[tokens[row, at + 1]] / odds.sum())
    return result


def loss(margin, smoothing):
    right, wrong = (1.0 / (1.0 + math.exp(-sign * margin)) for sign in (1, -1))
    return -(1.0 - smoothing) * math.log(right) - smoothing * math.log(wrong)


def slope(margin, smoothing):
    """The derivative of `loss`: sigmoid of the margin, minus the probability that the label is right."""
    return 1.0 / (1.0 + math.exp(-margin)) - (1.0 - smoothing)
