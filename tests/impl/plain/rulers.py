"""How far float32 may be from the exact model, derived, and the comparisons that use it."""

from __future__ import annotations

import math
from dataclasses import fields
from functools import cache

import numpy as np

from impl.reference.plain import logits
from impl.reference.plain.decoder import forward
from impl.reference.plain.rotary import radians
from impl.reference.plain.stacks import layers, turning

ROUNDING = 2.0**-24
"""Largest relative error of one float32 rounding."""


def plain_logits(case, **overrides):
    """The plain model's logits of a case, with some settings changed."""
    made, config = case.batch, case.config.overriding(overrides)
    return logits(config, case.weights, made.tokens, made.positions, made.segment_ids)


@cache
def exact_forward(case):
    """What the plain model makes of a case, computed once: no fault may be in it while this is first called."""
    made = case.batch
    return forward(case.config, case.weights, made.tokens, made.positions, made.segment_ids)


def exact_logits(case):
    """The logits of `exact_forward`."""
    return exact_forward(case).logits


def logits_room(case):
    """How far a float32 logit of a case may be from the exact one; `_rooms` says why."""
    return _rooms(case)[0]


def balance_room(case):
    """The same for its load-balance loss."""
    return _rooms(case)[1]


@cache
def _rooms(case):
    """How far a float32 logit may be from the exact one: how far that moves when every weight is a little off.

    because: a float32 sum of n products is the exact sum of products that are each a little off, and since roundings
    go up as often as down, by about sqrt(n) of them (Higham and Mary 2019, doi 10.1137/18M1226312). n is the longest
    sum of the forward pass; what is not a sum takes fewer roundings than that. An angle a, besides, is off by a times
    as many roundings as the power took that it comes from, `_angle_spacings`: it turns heads as if their weights were
    off by that. So every weight is moved by (sqrt(n) + angles) roundings, up or down at random. What a load-balance
    loss moves by is its room, by the same right; a choice that turned over would move it by far more, and be seen.
    """
    config, made = case.config, case.batch
    longest = max(config.emb_dim, config.mlp_dim, config.num_query_heads * config.head_dim, made.tokens.shape[1])
    size = (math.sqrt(longest) + _angle_spacings(config, int(made.positions.max()))) * ROUNDING
    random = np.random.default_rng(5)
    moved = {
        name: value.astype(np.float64) * (1.0 + size * random.choice((-1.0, 1.0), value.shape))
        for name, value in case.weights.items()
    }
    off = forward(config, moved, made.tokens, made.positions, made.segment_ids)
    own = abs(off.balance - exact_forward(case).balance) + math.sqrt(longest) * ROUNDING * off.balance
    return float(np.max(np.abs(off.logits - exact_logits(case)))), own


def _angle_spacings(config, farthest):
    """Roundings in the worst angle, as tests/impl/math/test_rope.py derives them: 2 ln(wavelength) + 4 of the angle.

    A frequency between the old and the slowed one errs with its share, 8 * 4/3 times as much for Llama, twice the
    factor more for YaRN. A frequency of exactly 1 is exact.
    """
    if config.trainable_position_size:
        return 0.0
    slowing = {"default": 1.0, "llama3.1": 8.0, "yarn": config.rope_factor}[config.rope_type]
    worst = 0.0
    for turns in {turning(config, layer) for layer in layers(config)}:
        for speed, before in zip(radians(turns), radians(turns.overriding({"rope_type": "default"})), strict=True):
            roundings = 2.0 * abs(math.log(before)) + 4.0
            if before / slowing * 1.001 < speed < before * 0.999:
                roundings = roundings * 8 * 4 / 3 if turns.rope_type == "llama3.1" else roundings + 2 * slowing
            worst = max(worst, 0.0 if speed == 1.0 else farthest * speed * roundings)
    return worst


def agree(found, expected, room):
    """Every logit is finite and within `room` of the exact one."""
    error = np.abs(np.asarray(found, np.float64) - expected)
    assert error.shape == expected.shape
    assert error.size
    worst = float(error.max())
    assert worst <= room, f"largest error {worst:.3g}, room {room:.3g}"


def losses_agree(found, expected, case, settings):
    """Every loss term that `found` has, by the names of `Losses`, is as near as its formula allows.

    because: if no logit is off by more than r, `logits_room`, then log Z and the target's logit are off by r at most,
    and log Z by V roundings of its sum. The z-loss has slope 2 z log Z in log Z. A sum of W positive terms is off by W
    roundings of itself; a quotient, a square or an exponential adds a few, of which 4 are allowed for.
    """
    tokens, vocabulary = expected.total_weights, case.config.vocab_size
    off = logits_room(case) + vocabulary * ROUNDING
    highest = float(np.abs(exact_logits(case)).max()) + math.log(vocabulary)
    slope = 2.0 * settings.z_loss_multiplier * highest
    own = (tokens + 4.0) * ROUNDING
    xent = tokens * (2.0 + slope) * off + own * expected.xent_sum
    z = tokens * slope * off + own * expected.z_sum
    mean = xent / tokens + own * expected.lm_loss
    rooms = {
        "xent_sum": xent,
        "z_sum": z,
        "total_weights": 0.0,
        "loss": mean + balance_room(case) + ROUNDING * expected.moe_lb_loss,
        "lm_loss": mean,
        "perplexity": expected.perplexity * (mean + own),
        "z_loss": z / tokens + own * expected.z_loss,
        "moe_lb_loss": balance_room(case),
        # Of no case here: tests/impl/plain/test_further.py has its own.
        "mtp_loss": 0.0,
    }
    assert set(rooms) == {field.name for field in fields(expected)}
    assert found
    for name, value in found.items():
        error = abs(float(value) - getattr(expected, name))
        assert error <= rooms[name], f"{name}: off by {error:.3g}, room {rooms[name]:.3g}"
