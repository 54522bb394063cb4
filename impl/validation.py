"""Why a configuration cannot be built, each reason a sentence with the values and the cure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from impl import quantization
from impl.latent import latent_problems
from impl.math.gates import ACTIVATIONS
from impl.prediction import prediction_problems
from impl.sharding.memory import offload_problems

if TYPE_CHECKING:
    from impl.config import ModelConfig

__all__ = ["BLOCKS", "CYCLED", "DTYPES", "MIXED", "REMAT_POLICIES", "problems"]

BLOCKS = (
    *("deepseek", "gemma2", "gemma3", "gpt3", "gpt_oss", "llama2", "mistral", "mixtral", "olmo3"),
    *("qwen3", "qwen3_moe"),
)
"""Decoder blocks that are implemented."""

MIXED = ("deepseek", "gpt_oss", "mixtral", "qwen3_moe")
"""Those with experts."""

CYCLED = ("gemma3", "gpt_oss", "olmo3")
"""Those whose layers attend in a cycle."""

LOAD_BALANCE_PROBABILITIES = ("router", "maxtext-0.2.4")
REMAT_POLICIES = ("none", "full", "minimal", "save_dot_except_mlp")
DTYPES = ("float32", "bfloat16", "float64")


def problems(config: ModelConfig) -> list[str]:
    """Every reason for which `config` cannot be built, each a sentence with the values and the cure."""
    found = [*_size_problems(config), *_choice_problems(config), *_combination_problems(config)]
    found += [*quantization.problems(config), *latent_problems(config), *prediction_problems(config)]
    found += offload_problems(config)
    if config.quantization and config.decoder_block in MIXED:
        found.append(
            f"quantization={config.quantization!r} with decoder_block={config.decoder_block!r}: experts are not "
            "multiplied in 8 bits; use quantization=''"
        )
    return [*found, *_layer_problems(config), *(_mixture_problems(config) if config.decoder_block in MIXED else ())]


def _layer_problems(config: ModelConfig) -> list[str]:
    found = [
        f"layer_cycle={config.layer_cycle}: a layer is local or global, not {kind!r}"
        for kind in config.layer_cycle
        if kind not in ("local", "global")
    ]
    if config.layer_cycle and config.decoder_block not in CYCLED:
        found.append(
            f"layer_cycle={config.layer_cycle} says nothing to decoder_block={config.decoder_block!r}, whose layers "
            "are all alike: leave it empty"
        )
    if not 0 <= config.first_num_dense_layers <= config.num_decoder_layers:
        found.append(
            f"first_num_dense_layers={config.first_num_dense_layers} must lie between 0 and "
            f"num_decoder_layers={config.num_decoder_layers}"
        )
    return found


def _mixture_problems(config: ModelConfig) -> list[str]:
    """Of a model with experts."""
    number, chosen = config.num_experts, config.num_experts_per_tok
    found = []
    if config.moe_mlp_dim < 1:
        found.append(f"moe_mlp_dim={config.moe_mlp_dim} must be at least 1: it is the width of an expert")
    if not 1 <= chosen <= number:
        found.append(f"num_experts_per_tok={chosen} must lie between 1 and num_experts={number}")
    if config.routed_bias_update_rate and not config.routed_bias:
        found.append(
            f"routed_bias_update_rate={config.routed_bias_update_rate} moves a routing bias: set routed_bias too"
        )
    if config.capacity_factor != -1.0 and config.capacity_factor <= 0:
        found.append(f"capacity_factor={config.capacity_factor} lets no expert take anything: make it positive, or -1")
    if config.capacity_factor > 0 and config.sparse_matmul:
        found.append(
            f"capacity_factor={config.capacity_factor} with sparse_matmul=True: sorted tokens are all taken; use -1, "
            "or sparse_matmul=False"
        )
    never = ("shared_experts", "load_balance_loss_weight", "routed_bias_update_rate", "mlp_activations_limit")
    values = {name: getattr(config, name) for name in never}
    found += [f"{name}={value} must not be negative" for name, value in values.items() if value < 0]
    return found + _routing_problems(config)


def _routing_problems(config: ModelConfig) -> list[str]:
    """Of whom a token goes to."""
    number, chosen, groups = config.num_experts, config.num_experts_per_tok, config.n_routing_groups
    found = []
    if config.routed_score_func not in ("", "softmax", "sigmoid"):
        found.append(f"routed_score_func={config.routed_score_func!r} is not one of '', softmax, sigmoid")
    if groups and (groups < 0 or number % groups or not 1 <= config.topk_routing_group <= groups):
        found.append(
            f"n_routing_groups={groups} must divide num_experts={number}, and topk_routing_group="
            f"{config.topk_routing_group} lie between 1 and it"
        )
    elif groups and chosen > config.topk_routing_group * (number // groups):
        found.append(
            f"num_experts_per_tok={chosen} exceeds the {config.topk_routing_group * (number // groups)} experts of "
            f"topk_routing_group={config.topk_routing_group} groups: open more of them"
        )
    if config.load_balance_probabilities not in LOAD_BALANCE_PROBABILITIES:
        found.append(
            f"load_balance_probabilities={config.load_balance_probabilities!r} is not one of "
            f"{', '.join(LOAD_BALANCE_PROBABILITIES)}"
        )
    if config.biased_weights and not (config.routed_bias and config.decoder_block == "deepseek"):
        found.append(
            f"biased_weights=True with decoder_block={config.decoder_block!r} and routed_bias={config.routed_bias}: "
            "only deepseek's routing bias can be left out of weights; set it to False"
        )
    return found


def _size_problems(config: ModelConfig) -> list[str]:
    positive = (
        *("vocab_size", "emb_dim", "num_query_heads", "num_kv_heads", "head_dim", "mlp_dim", "num_decoder_layers"),
        *("max_target_length", "max_prefill_predict_length", "rope_min_timescale", "rope_max_timescale"),
    )
    problems = [f"{name}={getattr(config, name)} must be at least 1" for name in positive if getattr(config, name) < 1]
    if problems:
        return problems
    if config.num_query_heads % config.num_kv_heads:
        problems.append(
            f"num_query_heads={config.num_query_heads} is not a multiple of num_kv_heads={config.num_kv_heads}: "
            "every key head serves the same number of query heads"
        )
    if config.head_dim % 2 and config.decoder_block != "gpt3":
        problems.append(f"head_dim={config.head_dim} is odd: rotary embedding turns pairs of dimensions")
    if config.max_prefill_predict_length >= config.max_target_length:
        problems.append(
            f"max_prefill_predict_length={config.max_prefill_predict_length} leaves no room to generate in "
            f"max_target_length={config.max_target_length}: make it smaller"
        )
    if not 0.0 <= config.dropout_rate < 1.0:
        problems.append(f"dropout_rate={config.dropout_rate} must lie in [0, 1)")
    never_negative = (
        *("normalization_layer_epsilon", "sliding_window_size", "trainable_position_size"),
        *("final_logits_soft_cap", "attn_logits_soft_cap"),
    )
    return problems + [
        f"{name}={getattr(config, name)} must not be negative" for name in never_negative if getattr(config, name) < 0
    ]


def _choice_problems(config: ModelConfig) -> list[str]:
    choices: dict[str, tuple[Any, ...]] = {
        "decoder_block": BLOCKS,
        "rope_type": ("default", "llama3.1", "yarn"),
        "dtype": DTYPES,
        "weight_dtype": DTYPES,
        "remat_policy": REMAT_POLICIES,
        "param_scan_axis": (0, 1),
        "matmul_precision": ("default", "high", "highest"),
    }
    problems = [
        f"{name}={getattr(config, name)!r} is not one of {', '.join(map(str, known))}"
        for name, known in choices.items()
        if getattr(config, name) not in known
    ]
    unknown = [name for name in config.mlp_activations if name not in ACTIVATIONS]
    if unknown or not config.mlp_activations:
        problems.append(f"mlp_activations={config.mlp_activations}: choose from {', '.join(sorted(ACTIVATIONS))}")
    return problems


def _combination_problems(config: ModelConfig) -> list[str]:
    problems = []
    if config.decoder_block == "gpt3" and config.num_query_heads != config.num_kv_heads:
        problems.append(
            f"gpt3 has plain multi-head attention: num_query_heads={config.num_query_heads} and "
            f"num_kv_heads={config.num_kv_heads} must be equal"
        )
    if config.zero_centred_norm and (config.decoder_block == "gpt3" or config.attention_type == "mla"):
        problems.append(
            f"zero_centred_norm=True with decoder_block={config.decoder_block!r} and attention_type="
            f"{config.attention_type!r}: gpt3's norms are so already, those of latents never; leave it out"
        )
    if config.decoder_block == "gpt3" and config.trainable_position_size < config.max_target_length:
        problems.append(
            f"gpt3 learns its positions: trainable_position_size={config.trainable_position_size} must be at least "
            f"max_target_length={config.max_target_length}"
        )
    for name in ("normalize_embedding_logits", "round_tied_table"):
        if getattr(config, name) and not config.logits_via_embedding:
            problems.append(f"{name}=True has no effect with logits_via_embedding=False: set one of the two")
    if config.stretched_local and config.decoder_block != "olmo3":
        problems.append(
            f"stretched_local=True with decoder_block={config.decoder_block!r}: only olmo3's local layers can be "
            "stretched or not; set it to False"
        )
    if config.rope_type == "yarn" and config.rope_max_timescale < 2:
        problems.append(
            f"rope_max_timescale={config.rope_max_timescale} gives every dimension one frequency, and yarn then has "
            "nothing to interpolate between: use more than 1"
        )
    return problems
