"""The formulae again, in float64 NumPy and mostly as loops, so that they share nothing with `impl.math`.

Sources: scaled dot-product attention without its scale (arXiv 1706.03762), grouped queries (2305.13245), RoPE as a
product of complex numbers (2104.09864), Llama 3.1's published rescaling, YaRN (2309.00071), GELU by tanh (1606.08415).
"""

from __future__ import annotations

import math

import numpy as np


def attend(query, key, value, mask, soft_cap=0.0):
    """[B, T, H, D], [B, S, K, D] twice, [B, T, S] -> [B, T, H, D]."""
    result = np.empty(query.shape)
    batch, length, heads, _ = query.shape
    group = heads // key.shape[2]
    for b, t, h in np.ndindex(batch, length, heads):
        logits = key[b, :, h // group] @ query[b, t, h]
        if soft_cap:
            logits = soft_cap * np.tanh(logits / soft_cap)
        seen = mask[b, t] if mask[b, t].any() else np.ones(mask.shape[2], bool)
        if not mask[b, t].any():
            logits = np.zeros_like(logits)  # nothing to attend to: uniform over all keys
        odds = np.where(seen, np.exp(logits - logits[seen].max()), 0.0)
        result[b, t, h] = (odds / odds.sum()) @ value[b, :, h // group]
    return result


def training_mask(segments, window):
    batch, length = segments.shape
    mask = np.zeros((batch, length, length), bool)
    for b, row, column in np.ndindex(*mask.shape):
        near = window < 0 or row - column < window
        mask[b, row, column] = column <= row and near and segments[b, row] == segments[b, column]
    return mask


def cached_mask(query_positions, key_positions, valid, window):
    (batch, length), slots = query_positions.shape, key_positions.shape[1]
    mask = np.zeros((batch, length, slots), bool)
    for b, t, s in np.ndindex(*mask.shape):
        back = int(query_positions[b, t]) - int(key_positions[b, s])
        mask[b, t, s] = valid[b, s] and back >= 0 and (window < 0 or back < window)
    return mask


def default_radians(size, low, high, stretch):
    return [1.0 / (low * (high / low) ** (2 * i / size) * stretch) for i in range(size // 2)]


def llama_radians(size, theta):
    radians = []
    for i in range(size // 2):
        plain = theta ** (-2 * i / size)
        wavelength = 2 * math.pi / plain
        if wavelength < 8192 / 4:
            radians.append(plain)
        elif wavelength > 8192:
            radians.append(plain / 8)
        else:
            share = (8192 / wavelength - 1) / (4 - 1)
            radians.append((1 - share) * plain / 8 + share * plain)
    return radians


def yarn_radians(size, theta, factor, length, turns, truncate):
    def dimension(turns):
        return size * math.log(length / (2 * math.pi * turns)) / (2 * math.log(theta))

    low, high = map(dimension, turns)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(0, low), min(size - 1, high)
    radians = []
    for i in range(size // 2):
        slowed = float(i > low) if high == low else min(1.0, max(0.0, (i - low) / (high - low)))
        plain = theta ** (-2 * i / size)
        radians.append(slowed * plain / factor + (1 - slowed) * plain)
    return radians


def turn(first, second, positions, radians):
    """Coordinates [B, T, H, D/2] of pairs, as complex numbers times exp(i * angle)."""
    angles = positions[:, :, None, None].astype(np.float64) * np.asarray(radians)
    turned = (first + 1j * second) * np.exp(1j * angles)
    return turned.real, turned.imag


def activate(name, x):
    sigmoid = 1.0 / (1.0 + np.exp(-x))
    return {
        "silu": x * sigmoid,
        "gelu": 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))),
        "relu": np.where(x > 0, x, 0.0),
        "sigmoid": sigmoid,
        "linear": x,
    }[name]


def tied_logits(hidden, table):
    return np.stack([hidden @ row for row in table], axis=-1)


def log_partition(logits):
    top = logits.max(axis=-1, keepdims=True)
    return top[..., 0] + np.log(np.exp(logits - top).sum(axis=-1))


def token_losses(logits, targets, z_loss):
    log_z = log_partition(logits)
    xent, z = np.empty(targets.shape), np.empty(targets.shape)
    for b, t in np.ndindex(*targets.shape):
        z[b, t] = z_loss * log_z[b, t] ** 2
        xent[b, t] = log_z[b, t] - logits[b, t, targets[b, t]] + z[b, t]
    return xent, z
