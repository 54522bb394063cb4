"""A mixture of experts over one row: who takes which position, what comes of it, and how evenly they are loaded.

N experts, of which a position is taken by J. Sources: arXiv 2401.04088 (a softmax over the chosen), 2412.19437 (sigmoid
scores, a bias that only chooses, groups, scaling), 2508.10925 (the clipped gate), 2101.03961 (the load-balance loss).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from impl.config import ModelConfig
from impl.reference.plain.leaves import Weights, below
from impl.reference.plain.mlp import ACTIVATIONS, feed_forward

__all__ = ["Choice", "balance", "choice", "mixture", "opened"]

SLOPE = 1.702
"""z sigmoid(1.702 z) is near to GELU. Source: arXiv 1606.08415, section 2."""


class Choice(NamedTuple):
    """weights: chosen expert -> how much it counts. likely: how likely each of the N is by itself, adding up to 1."""

    weights: dict[int, float]
    likely: list[float]


def mixture(config: ModelConfig, weights: Weights, x: np.ndarray) -> tuple[np.ndarray, float]:
    """Normed hidden states [T, E] -> what the experts add to them [T, E], and the row's load-balance loss.

    `weights` are named relative to the layer. deepseek's shared experts are one MLP that every position passes.
    """
    names = {"deepseek": "DeepSeekMoeBlock_0/MoeBlock_0", "gpt_oss": "GptOssMlp", "qwen3_moe": "moe_block"}
    routed = below(weights, names.get(config.decoder_block, "MoeBlock_0"))
    shared = below(weights, "DeepSeekMoeBlock_0/shared_experts")
    choices = [choice(config, routed, vector) for vector in x]
    added, taken = np.zeros_like(x), [0] * config.num_experts
    for t, vector in enumerate(x):
        for expert, weight in choices[t].weights.items():
            taken[expert] += 1
            if config.capacity_factor > 0 and taken[expert] > _capacity(config, len(x)):
                continue
            added[t] += weight * _expert(config, routed, vector, expert)
        if shared:
            added[t] += feed_forward(config, shared, vector)
    return added, balance(config, choices)


def _capacity(config: ModelConfig, length: int) -> int:
    """How many positions of a row an expert takes: so many times what each would have if all had the same, at least 1.

    Who comes first is taken, each by its best choice first. Source: arXiv 2006.16668, 2.2.
    """
    even = length * config.num_experts_per_tok / config.num_experts
    return max(1, math.floor(config.capacity_factor * even))


def choice(config: ModelConfig, weights: Weights, x: np.ndarray) -> Choice:
    """Who takes one position [E].

    The highest scores are chosen, of equal ones the lower number. deepseek adds its bias to what is compared only, and
    weighs by the scores themselves (with the bias, if biased_weights), in the end times its factor; all others add
    their bias to the router's numbers, and weigh by a softmax over those of the chosen.
    """
    deepseek = config.decoder_block == "deepseek"
    bias = weights.get("gate/bias", np.zeros(config.num_experts))
    numbers = [float(number) for number in x @ weights["gate/kernel"] + (0.0 if deepseek else bias)]
    scores = _scores(config.routed_score_func, numbers)
    worth = [score + (bias[n] if deepseek else 0.0) for n, score in enumerate(scores)]
    best = sorted(_open(config, worth), key=lambda n: (-worth[n], n))[: config.num_experts_per_tok]
    kept = [worth[n] if config.biased_weights else scores[n] for n in best]
    if deepseek:
        total = sum(kept) if config.norm_topk_prob or config.routed_score_func == "sigmoid" else 1.0
        kept = [config.routed_scaling_factor * score / total for score in kept]
    else:
        kept = _softmax(kept)
    return Choice(dict(zip(best, kept, strict=True)), _likely(config, numbers, scores, worth))


def _likely(config: ModelConfig, numbers: list[float], scores: list[float], worth: list[float]) -> list[float]:
    """How likely each expert is; MaxText 0.2.4 has a softmax of what is compared, though that may be a softmax too."""
    if config.load_balance_probabilities == "maxtext-0.2.4":
        return _softmax(worth)
    return [score / sum(scores) for score in scores] if config.routed_score_func == "sigmoid" else _softmax(numbers)


def _scores(kind: str, numbers: list[float]) -> list[float]:
    if kind == "sigmoid":
        return [1.0 / (1.0 + math.exp(-number)) for number in numbers]
    return _softmax(numbers) if kind == "softmax" else numbers


def _softmax(numbers: list[float]) -> list[float]:
    odds = [math.exp(number - max(numbers)) for number in numbers]
    return [each / sum(odds) for each in odds]


def _open(config: ModelConfig, worth: list[float]) -> list[int]:
    """The experts that a position may choose from: all, or those of the groups whose two best add up to the most."""
    if not config.n_routing_groups:
        return list(range(len(worth)))
    size = len(worth) // config.n_routing_groups
    groups = [list(range(first, first + size)) for first in range(0, len(worth), size)]
    groups.sort(key=lambda group: -sum(sorted((worth[n] for n in group), reverse=True)[:2]))
    return [n for group in groups[: config.topk_routing_group] for n in group]


def _expert(config: ModelConfig, weights: Weights, x: np.ndarray, expert: int) -> np.ndarray:
    """One position [E] through one expert, times its factor where experts have one."""
    count = len(config.mlp_activations)
    names = ["wi"] if count == 1 else [f"wi_{index}" for index in range(count)]
    parts = [x @ weights[name][expert] + _bias(weights, f"{name}_bias", expert) for name in names]
    made = opened(config, parts) @ weights["wo"][expert] + _bias(weights, "wo_bias", expert)
    return made * (weights["per_expert_scale"][expert] if config.per_expert_scale else 1.0)


def _bias(weights: Weights, name: str, expert: int) -> np.ndarray | float:
    return weights[name][expert] if name in weights else 0.0


def opened(config: ModelConfig, parts: list[np.ndarray]) -> np.ndarray:
    """The product of an expert's projections under their activations; gpt-oss's where the model has a limit.

    That one bounds the gate z from above and the value u on both sides, and is z f(1.702 z) (u + 1).
    """
    acts = [ACTIVATIONS[name] for name in config.mlp_activations]
    if limit := config.mlp_activations_limit:
        gates, values = (part.tolist() for part in parts)
        gates = [min(z, limit) for z in gates]
        values = [max(-limit, min(u, limit)) for u in values]
        return np.array([z * acts[0](SLOPE * z) * (u + 1.0) for z, u in zip(gates, values, strict=True)])
    product = np.ones_like(parts[0])
    for act, part in zip(acts, parts, strict=True):
        product *= [act(float(entry)) for entry in part]
    return product


def balance(config: ModelConfig, choices: list[Choice]) -> float:
    """A row's load-balance loss: N times the sum, over experts, of the part of its positions that an expert takes,
    times the mean of how likely it was; times the weight of this loss."""
    total = 0.0
    for expert in range(config.num_experts):
        taken = sum(expert in each.weights for each in choices) / len(choices)
        total += taken * sum(each.likely[expert] for each in choices) / len(choices)
    return config.load_balance_loss_weight * config.num_experts * total
