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


def routed(logits, bias, router):
    """[B, T, N], [N] -> experts [B, T, J], weights [B, T, J], scores [B, T, N], one token at a time."""
    batch, length, number = logits.shape
    experts = np.empty((batch, length, router.count), int)
    weights, scores = np.empty(experts.shape), np.empty(logits.shape)
    for place in np.ndindex(batch, length):
        score = [_score(value, router.score, logits[place]) for value in logits[place]]
        ranked, size = [s + b for s, b in zip(score, bias, strict=True)], number // max(router.groups, 1)
        open_ = set(range(number))
        if router.groups:
            worth = {g: sum(sorted(ranked[g * size : (g + 1) * size])[-2:]) for g in range(router.groups)}
            best = sorted(worth, key=lambda g: (-worth[g], g))[: router.kept]
            open_ = {g * size + i for g in best for i in range(size)}
        chosen = sorted(open_, key=lambda n: (-ranked[n], n))[: router.count]
        weight = [(ranked if router.biased else score)[n] for n in chosen]
        if router.softmax:
            weight = [_score(value, "softmax", weight) for value in weight]
        total = sum(weight) if router.renormalise else 1.0
        experts[place], scores[place] = chosen, score
        weights[place] = [value / total * router.scaling for value in weight]
    return experts, weights, scores


def _score(value, kind, among):
    if kind == "sigmoid":
        return 1.0 / (1.0 + math.exp(-value))
    return math.exp(value) / sum(math.exp(other) for other in among) if kind == "softmax" else value


def mixed_experts(x, routing, experts):
    """Tokens through SwiGLU experts -> the sum, and the sum of magnitudes that roundings are measured by."""
    result, size = np.zeros(x.shape), 0.0
    for b, t in np.ndindex(x.shape[:2]):
        for expert, weight in zip(np.asarray(routing.experts)[b, t], np.asarray(routing.weights)[b, t], strict=True):
            first, second = (x[b, t] @ kernel[expert].astype(float) for kernel in experts.inputs)
            if experts.input_biases:
                first, second = (v + e[expert] for v, e in zip((first, second), experts.input_biases, strict=True))
            hidden = first / (1 + np.exp(-first)) * second
            added = hidden @ experts.output[expert].astype(float)
            added = added + (experts.output_bias[0][expert] if experts.output_bias else 0.0)
            result[b, t] += float(weight) * added
            size = max(size, np.abs(hidden).sum() * np.abs(experts.output[expert]).max() + np.abs(added).max())
    return result, size * 4


def in_time(experts, taken):
    """1 for each choice [B, T, J] among the first `taken` of its row that fall on its expert, else 0."""
    kept = np.zeros(experts.shape)
    for b in range(experts.shape[0]):
        queues = {}
        for t, j in np.ndindex(experts.shape[1:]):
            queue = queues.setdefault(int(experts[b, t, j]), [])
            queue.append((t, j))
            kept[b, t, j] = len(queue) <= taken
    return kept


def load_balance(logits, experts, kind, weight):
    """N times the sum over experts of the part of tokens times the mean probability, row by row, times `weight`."""
    total, (batch, length, number) = 0.0, logits.shape
    for b in range(batch):
        for n in range(number):
            load = sum(n in experts[b, t] for t in range(length)) / length
            likely = 0.0
            for t in range(length):
                scores = [_score(value, kind or "softmax", logits[b, t]) for value in logits[b, t]]
                likely += scores[n] / sum(scores) / length
            total += number * load * likely / batch
    return weight * total


def head_losses(hidden, table, labels, z_loss, head):
    """labels: (targets, segments); head: (scale, cap) -> (cross entropy with z-loss, z-loss, weights) summed.

    Logits are cap * tanh(hidden . row * scale / cap).
    """
    (targets, segments), (scale, cap) = labels, head
    logits = tied_logits(hidden, table) * scale
    logits = cap * np.tanh(logits / cap) if cap else logits
    xent, z = token_losses(logits, targets, z_loss)
    kept = segments != 0
    return xent[kept].sum(), z[kept].sum(), float(kept.sum())


def head_gradients(hidden, table, labels, z_loss, head, factors):
    """Slopes by (table, hidden) of factors[0] * cross entropy + factors[1] * z-loss, by formula, token by token.

    The slope of log Z by a logit is its probability p, that of its square 2 log Z p, that of the chosen logit 1; a cap
    multiplies by 1 - tanh ** 2.
    """
    (targets, segments), (scale, cap) = labels, head
    of_table, of_hidden = np.zeros(table.shape), np.zeros(hidden.shape)
    for b, t in np.ndindex(*targets.shape):
        if segments[b, t] == 0:
            continue
        bent = np.tanh(table @ hidden[b, t] * scale / cap) if cap else table @ hidden[b, t] * scale
        logits = cap * bent if cap else bent
        log_z = log_partition(logits[None])[0]
        odds = np.exp(logits - log_z)
        slope = odds * (factors[0] + 2 * z_loss * log_z * (factors[0] + factors[1]))
        slope[targets[b, t]] -= factors[0]
        slope *= scale * (1 - bent**2 if cap else 1.0)
        of_table += np.outer(slope, hidden[b, t])
        of_hidden[b, t] = slope @ table
    return of_table, of_hidden
