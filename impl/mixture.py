"""The fields of a model that shape layers of several kinds and mixtures of experts, under MaxText's names."""

from __future__ import annotations

from dataclasses import dataclass

from impl.later import later

__all__ = ["Mixture"]


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """What `impl.config.ModelConfig` has beside a plain decoder's fields. N experts, M inside each of them.

    layer_cycle: what the layers of one cycle attend to, "local" or "global"; () leaves it to the block.
    first_num_dense_layers: layers of a deepseek decoder that come before those with experts.
    local_rope_max_timescale: of layers that attend locally; 0 gives them the others'. stretched_local: olmo3's local
        layers turn by stretched frequencies too, as in MaxText 0.2.4; its authors stretch the global ones alone.
    num_experts N, num_experts_per_tok J, moe_mlp_dim M: sizes of a mixture. shared_experts: how many more take every
        token; they are one MLP of that many times M.
    routed_score_func: "", "softmax" or "sigmoid". norm_topk_prob: weights of the chosen are divided by their sum.
    routed_scaling_factor, n_routing_groups and topk_routing_group (0: none): deepseek's, see `impl.math.moe.Router`.
    routed_bias: the router has a bias; deepseek's only chooses, and steps by routed_bias_update_rate outside of the
        optimizer. biased_weights: that bias is in the weights too, as in MaxText 0.2.4 for deepseek's models whose
        name does not begin with deepseek3.
    load_balance_loss_weight: 0 computes no such loss. load_balance_probabilities: "router", or "maxtext-0.2.4" for
        what that release takes, a softmax over scores that have passed routed_score_func and have their bias.
    per_expert_scale: experts have a factor each; fuse_expert_scales multiplies output kernels by it, not weights.
    sparse_matmul: tokens are sorted by expert; else every expert computes every token.
    capacity_factor: above 0 an expert takes that many times its even share of a row's choices, and no more; -1 takes
        all (`impl.math.moe.limited`).
    mlp_activations_limit: bounds what enters the activation, as gpt-oss does, by arXiv 2508.10925; 0 bounds nothing.
    attention_sink: each head has a logit of its own for attending to nothing.
    """

    layer_cycle: tuple[str, ...] = later(())
    local_rope_max_timescale: int = later(0)
    stretched_local: bool = later(False)
    first_num_dense_layers: int = later(0)
    num_experts: int = later(1)
    num_experts_per_tok: int = later(1)
    moe_mlp_dim: int = later(0)
    shared_experts: int = later(0)
    routed_score_func: str = later("")
    norm_topk_prob: bool = later(False)
    routed_scaling_factor: float = later(1.0)
    n_routing_groups: int = later(0)
    topk_routing_group: int = later(0)
    routed_bias: bool = later(False)
    routed_bias_update_rate: float = later(0.0)
    biased_weights: bool = later(False)
    load_balance_loss_weight: float = later(0.0)
    load_balance_probabilities: str = later("router")
    per_expert_scale: bool = later(False)
    fuse_expert_scales: bool = later(False)
    sparse_matmul: bool = later(False)
    mlp_activations_limit: float = later(0.0)
    attention_sink: bool = later(False)
    capacity_factor: float = later(-1.0)
