"""What both sides' mixtures of experts have in common: names, the router and the activation of a configuration."""

from __future__ import annotations

from typing import cast

import jax

from impl.config import ModelConfig
from impl.math.gates import clipped_gate, gate
from impl.math.moe import (
    Experts,
    Router,
    Routing,
    Score,
    capacity,
    dense,
    limited,
    load_balance,
    loads,
    probabilities,
    scaled_experts,
    scaled_routing,
    sparse,
)

__all__ = [
    "BALANCE",
    "LOADS",
    "MIXTURES",
    "ROUTED",
    "SHARED",
    "attention_name",
    "auxiliary",
    "combined",
    "feed_forward_name",
    "gate_inputs",
    "gated",
    "has_experts",
    "only_chooses",
    "router",
    "scaled",
    "told",
]

MIXTURES: dict[str, str] = {
    "deepseek": "DeepSeekMoeBlock_0",
    "gpt_oss": "GptOssMlp",
    "mixtral": "MoeBlock_0",
    "qwen3_moe": "moe_block",
}
"""Decoder block -> what its mixture of experts is called, in MaxText's trees and here."""

BALANCE, LOADS = "moe_lb_loss", "moe_expert_loads"
"""What a mixture sows, if the configuration asks for it."""

ROUTED, SHARED = "MoeBlock_0", "shared_experts"
"""The two halves of a mixture with shared experts."""


def has_experts(config: ModelConfig, kind: str) -> bool:
    """Whether layers of that kind, as in `impl.stacks`, hold experts instead of an MLP."""
    return config.decoder_block in MIXTURES and kind != "dense"


def feed_forward_name(config: ModelConfig, kind: str) -> str:
    """What the second half of a layer is called."""
    return MIXTURES[config.decoder_block] if has_experts(config, kind) else "mlp"


def attention_name(config: ModelConfig) -> str:
    """What the attention of a layer is called, where it has one."""
    return {"gpt_oss": "GptOssAttention", "olmo3": "attention"}.get(config.decoder_block, "self_attention")


def router(config: ModelConfig) -> Router:
    """How the configuration routes. deepseek weighs by scores, the others by a softmax over the chosen ones.

    Sigmoid scores are always renormalised in deepseek; renormalising what a softmax made changes nothing but roundings.
    """
    scored = config.decoder_block == "deepseek"
    return Router(
        count=config.num_experts_per_tok,
        score=cast(Score, config.routed_score_func),
        groups=config.n_routing_groups,
        kept=config.topk_routing_group,
        softmax=not scored,
        renormalise=config.norm_topk_prob or (scored and config.routed_score_func == "sigmoid"),
        scaling=config.routed_scaling_factor if scored else 1.0,
        biased=config.biased_weights,
    )


def auxiliary(config: ModelConfig, logits: jax.Array, routing: Routing) -> dict[str, jax.Array]:
    """What a mixture tells the training step, by name: its load-balance loss, the loads of its experts."""
    told = {}
    if config.load_balance_loss_weight > 0:
        likely = _LIKELY[config.load_balance_probabilities](config, logits, routing)
        told[BALANCE] = load_balance(routing.experts, likely, config.load_balance_loss_weight)
    if config.routed_bias_update_rate > 0:
        told[LOADS] = jax.lax.stop_gradient(loads(routing.experts, config.num_experts))
    return told


def _by_router(config: ModelConfig, logits: jax.Array, routing: Routing) -> jax.Array:
    return probabilities(logits, routing, router(config))


def _maxtext_0_2_4(config: ModelConfig, logits: jax.Array, routing: Routing) -> jax.Array:
    return jax.nn.softmax(routing.ranked, axis=-1)


_LIKELY = {"router": _by_router, "maxtext-0.2.4": _maxtext_0_2_4}


def told(config: ModelConfig) -> tuple[str, ...]:
    """The names that `auxiliary` gives."""
    asked = {BALANCE: config.load_balance_loss_weight, LOADS: config.routed_bias_update_rate}
    return tuple(name for name, number in asked.items() if number > 0 and config.decoder_block in MIXTURES)


def gate_inputs(
    config: ModelConfig, logits: jax.Array, biases: tuple[jax.Array, ...]
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Logits and biases as the router takes them: only deepseek's bias stays apart, all others are added."""
    if config.decoder_block == "deepseek":
        return logits, biases
    return sum(biases, logits), ()


def only_chooses(config: ModelConfig, parameter: str) -> bool:
    """Whether a parameter by its neutral name is a routing bias that no gradient reaches."""
    balanced = config.load_balance_loss_weight > 0 and config.load_balance_probabilities != "router"
    apart = config.decoder_block == "deepseek" and not (config.biased_weights or balanced)
    return apart and parameter.endswith("/gate/bias")


def scaled(config: ModelConfig, routing: Routing, experts: Experts, scale: jax.Array) -> tuple[Routing, Experts]:
    """Each expert's factor [N] on one of the two, never on both."""
    if config.fuse_expert_scales:
        return routing, scaled_experts(experts, scale)
    return scaled_routing(routing, scale), experts


def gated(config: ModelConfig, projections: tuple[jax.Array, ...]) -> jax.Array:
    """The product of an expert's projections under their activations, clipped where the configuration has a limit."""
    if config.mlp_activations_limit > 0:
        return clipped_gate(config.mlp_activations, projections, config.mlp_activations_limit)
    return gate(config.mlp_activations, projections)


def combined(config: ModelConfig, x: jax.Array, routing: Routing, experts: Experts) -> jax.Array:
    """Tokens [B, T, E] through their experts, by every expert's products, sorted, or as many as experts take.

    Rows are what capacity is counted by: a prompt drops choices as a row in training does, a single token none.
    """

    def activated(found: tuple[jax.Array, ...]) -> jax.Array:
        return gated(config, found)

    if config.capacity_factor > 0:
        taken = capacity(x.shape[1], router(config), config.num_experts, config.capacity_factor)
        return limited(x, routing, experts, activated, taken)
    return (sparse if config.sparse_matmul else dense)(x, routing, experts, activated)
