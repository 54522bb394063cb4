"""Slopes of the plain model's loss by central differences, and how far a float32 gradient may be from them."""

from __future__ import annotations

import math

import numpy as np

from impl.reference.plain import objective
from tests.impl.plain.rulers import exact_logits, logits_room

STEP = 1e-4
"""Along a direction of length 1 the error of a central difference is STEP**2 / 6 of the third derivative, some 1e-9,
and that of float64 1e-16 * loss / STEP, some 1e-11. `test_gradients.py` doubles the step and weighs the change."""


def slope(case, settings, direction, step=STEP):
    """The derivative of the plain model's loss along a direction: neutral name -> array, absent names stay."""
    fields = case.batch._asdict()
    wide = {name: value.astype(np.float64) for name, value in case.weights.items()}

    def loss(distance):
        moved = {name: wide[name] + distance * part for name, part in direction.items()}
        return objective(case.config, settings, {**wide, **moved}, fields).loss

    return (loss(step) - loss(-step)) / (2.0 * step)


def drawn(case, name):
    """A random direction of length 1 in which one weight moves."""
    shape = case.weights[name].shape
    noise = np.random.default_rng([3, *name.encode()]).standard_normal(shape)
    return noise / np.linalg.norm(noise)


def along(gradient, direction):
    return float(np.sum(gradient.astype(np.float64) * direction))


def gradient_room(case, length):
    """How long the error of a float32 gradient of this length may be, and so its slope along any direction.

    because: the backward pass has the forward pass's products, each with a cotangent instead of a factor, and takes
    the forward pass's rounded values: it errs relatively twice as much as the logits do, by `logits_room`.
    """
    return 2.0 * length * logits_room(case) / float(np.abs(exact_logits(case)).max())


def leaf_room(case, largest, size):
    """How far the slope of one leaf of `size` numbers along a random direction may be from the exact one.

    because: a leaf in which everything cancels errs like the others, so the length of the largest leaf's gradient
    counts. An error that knows nothing of the direction has a slope of its length over sqrt(size), as one standard
    deviation; four of them are allowed for.
    """
    return 4.0 * gradient_room(case, largest) / math.sqrt(size)
