"""What each key of MaxText's configuration means here. Every key is taken, required to say one thing, or of no matter.

Read off MaxText 0.2.4 and its data sheet (facts/maxtext.md 1.1-1.16). A key in none of the tables is refused.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BLOCKS_ELSEWHERE",
    "DEFAULTS",
    "EXPERTS_OF_MLP_DIM",
    "EXPERTS_ONLY",
    "MIXTURES",
    "NEUTRAL",
    "OF_NO_MATTER",
    "READ_BY",
    "SCALED",
]

SCALED = ("emb_dim", "num_query_heads", "num_kv_heads", "mlp_dim", "moe_mlp_dim", "num_decoder_layers")
"""Sizes that a file gives as base_<name>; a resolved configuration has <name> too."""

DEFAULTS: dict[str, Any] = {
    "decoder_block": "llama2",
    "vocab_size": 32000,
    "emb_dim": 2048,
    "num_query_heads": 16,
    "num_kv_heads": 16,
    "head_dim": 128,
    "mlp_dim": 7168,
    "num_decoder_layers": 16,
    "mlp_activations": ["silu", "linear"],
    "logits_via_embedding": False,
    "normalize_embedding_logits": True,
    "final_logits_soft_cap": 0.0,
    "attn_logits_soft_cap": 0.0,
    "sliding_window_size": 0,
    "normalization_layer_epsilon": 1e-5,
    "use_qk_norm": False,
    "fused_qkv": False,
    "use_post_attn_norm": False,
    "use_post_ffw_norm": False,
    "trainable_position_size": -1,
    "rope_type": "default",
    "rope_min_timescale": 1,
    "rope_max_timescale": 10_000,
    "rope_linear_scaling_factor": 1.0,
    "rope_factor": 40.0,
    "original_max_position_embeddings": 4096,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "rope_interleave": True,
    "rope_truncate": True,
    "rope_attention_scaling": False,
    "enable_dropout": True,
    "dropout_rate": 0.0,
    "dtype": "bfloat16",
    "weight_dtype": "float32",
    "matmul_precision": "default",
    "scan_layers": True,
    "param_scan_axis": 1,
    "remat_policy": "full",
    "max_target_length": 2048,
    "max_prefill_predict_length": 64,
    "pure_nnx": True,
    "enable_nnx": True,
    "pure_nnx_decoder": True,
    "local_rope_max_timescale": -1,
    "num_experts": 1,
    "num_experts_per_tok": 1,
    "moe_mlp_dim": 7168,
    "norm_topk_prob": False,
    "routed_score_func": "",
    "routed_bias": False,
    "routed_bias_update_rate": 0.0,
    "load_balance_loss_weight": 0.0,
    "mlp_activations_limit": -1.0,
    "attention_sink": False,
    "attention_bias": False,
    "mlp_bias": False,
    "first_num_dense_layers": 0,
    "shared_experts": 0,
    "routed_scaling_factor": 1.0,
    "n_routing_groups": -1,
    "topk_routing_group": -1,
    "attention_type": "global",
    "q_lora_rank": 0,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "mscale": 1.0,
    "max_position_embeddings": 163840,
    "mtp_num_layers": 0,
    "mtp_loss_scaling_factor": 0.1,
    "mtp_eval_target_module": 0,
}
"""Keys that are taken, with MaxText's value where a file says nothing. Sizes under their resolved names."""

MIXTURES = frozenset({"deepseek", "gpt_oss", "mixtral", "qwen3_moe"})
"""Decoder blocks with experts that can be read from MaxText's keys."""

EXPERTS_OF_MLP_DIM = frozenset({"gpt_oss", "mixtral"})
"""Decoder blocks whose experts are as wide as mlp_dim says, whatever moe_mlp_dim does. MaxText asks for equal values
only where all layers are alike: gpt_oss, whose windows alternate, may have two."""

_OF_DEEPSEEK = (
    *("first_num_dense_layers", "shared_experts", "routed_scaling_factor", "routed_bias_update_rate"),
    *("n_routing_groups", "topk_routing_group", "attention_type", "q_lora_rank", "kv_lora_rank", "qk_nope_head_dim"),
    *("qk_rope_head_dim", "v_head_dim", "mscale", "max_position_embeddings"),
)

READ_BY: dict[str, frozenset[str]] = {
    "attn_logits_soft_cap": frozenset({"llama2", "gemma2"}),
    "sliding_window_size": frozenset({"gemma2", "gemma3", "gpt_oss", "olmo3"}),
    "use_qk_norm": frozenset({"olmo3", "qwen3", "qwen3_moe"}),
    "use_post_attn_norm": frozenset({"gemma2", "gemma3"}),
    "use_post_ffw_norm": frozenset({"gemma2", "gemma3"}),
    "attention_bias": frozenset({"gpt_oss"}),
    "mlp_bias": frozenset({"gpt_oss"}),
    "attention_sink": frozenset({"gpt_oss"}),
    "mlp_activations_limit": frozenset({"gpt_oss"}),
    "local_rope_max_timescale": frozenset({"gemma3"}),
    **dict.fromkeys(("num_experts", "num_experts_per_tok", "moe_mlp_dim"), MIXTURES),
    "norm_topk_prob": MIXTURES - {"deepseek"},
    **dict.fromkeys(("routed_score_func", "routed_bias", "load_balance_loss_weight"), MIXTURES),
    **dict.fromkeys(_OF_DEEPSEEK, frozenset({"deepseek"})),
    "inhomogeneous_layer_cycle_interval": frozenset({"gpt_oss", "olmo3"}),
}
"""Keys that only some decoder blocks look at, MaxText's and so ours. gpt3 has its biases whatever the keys say."""

BLOCKS_ELSEWHERE = frozenset(
    (
        *("deepseek4", "default", "gemma", "gemma4", "gemma4_small", "llama4", "qwen2", "qwen3_5"),
        *("qwen3_custom_moe", "qwen3_next", "simple", "simple_mlp"),
    )
)
"""Decoder blocks that MaxText has and this project has not."""

NEUTRAL: dict[str, tuple[tuple[Any, ...], str]] = {
    "num_experts": ((1, 0), "mixtures of experts do not exist here"),
    "first_num_dense_layers": ((0,), "mixtures of experts do not exist here"),
    "shared_experts": ((0,), "mixtures of experts do not exist here"),
    "attention_type": (("global",), "the block alone decides what its layers attend to"),
    "attention_sink": ((False,), "attention has no sinks here"),
    "attention_output_dim": ((-1,), "attention's output has width emb_dim here"),
    "share_kv_projections": ((False,), "keys and values have projections of their own here"),
    "fused_mlp": ((False,), "the input projections of an MLP are separate here"),
    "mlp_activations_limit": ((-1.0, None), "activations are not clamped here"),
    "chunk_attn_window_size": ((0, None), "attention is not cut into chunks here"),
    "moba": ((False,), "block attention does not exist here"),
    "use_indexer": ((False,), "sparse attention does not exist here"),
    "temperature_tuning": ((False,), "queries are not scaled by position here"),
    "nope_layer_interval": ((-1,), "every layer has its positions here"),
    "partial_rotary_factor": ((1.0,), "rotation turns the whole head here"),
    "use_mrope": ((False,), "positions have one axis here"),
    "rope_use_scale": ((True,), "llama3.1's rotation always has its slowed frequencies here"),
    "rope_pairwise": ((False,), "yarn gives halves out here"),
    "use_untrainable_positional_embedding": ((False,), "positions are rotated or learned here"),
    "qk_norm_with_scale": ((True,), "norms have a scale here"),
    "v_norm_with_scale": ((True,), "norms have a scale here"),
    "global_head_dim": ((0,), "all layers have one head size here"),
    "global_num_kv_heads": ((0,), "all layers have one number of key heads here"),
    "hidden_size_per_layer_input": ((0,), "layers have no inputs of their own here"),
    "num_kv_shared_layers": ((0,), "layers do not share keys and values here"),
    "use_double_wide_mlp": ((False,), "MLPs have width mlp_dim here"),
    "inhomogeneous_layer_cycle_interval": ((1,), "all blocks are alike here"),
    "interleave_moe_layer_step": ((1,), "all blocks are alike here"),
    "mhc_expansion_rate": ((1,), "there is one residual stream here"),
    "engram_layers": (((),), "engrams do not exist here"),
    "compress_ratios": (((),), "keys and values are not compressed here"),
    "quantization": (("", None), "nothing is quantised here"),
    "use_qwix_quantization": ((False,), "nothing is quantised here"),
    "weight_sparsity_n": ((None,), "weights are not sparse here"),
    "weight_sparsity_m": ((None,), "weights are not sparse here"),
    "use_multimodal": ((False,), "inputs are text alone here"),
    "use_audio": ((False,), "inputs are text alone here"),
    "training_objective": (("causal_lm",), "the next token is predicted here"),
}
"""Keys that change the model in a way that does not exist here: the values that do not, and what is so here."""

EXPERTS_ONLY: dict[str, tuple[tuple[Any, ...], str]] = {
    "capacity_factor": ((-1.0,), "whom MaxText drops was not compared with whom is dropped here"),
    "use_random_routing": ((False,), "the router decides here"),
    "prefuse_moe_weights": ((False,), "the input kernels of experts are separate here"),
    "moe_expert_input_dim": ((-1,), "experts read emb_dim numbers here"),
}
"""As NEUTRAL, for decoder blocks with experts alone."""

OF_NO_MATTER: tuple[tuple[str, str], ...] = (
    (
        r"num_experts_per_tok|.*moe_.*|.*_moe|routed_.*|n_routing_groups|topk_routing_group|load_balance_.*|capacity_fac.*|"
        r"sparse_matmul|megablox|use_random_routing|norm_topk_prob|float32_gate_logits|float32_weight_sum|.*ragged_.*|"
        r"w[io]_tile_.*|use_ring_of_experts|use_custom_sort_vjp|merge_gating_gmm|use_tokamax_gmm|use_gmm_v2|"
        r"first_num_hash_layers|shard_exp_on_fsdp|use_2d_fsdp_sharding|use_gather_mosaic_kernel",
        "only a mixture of experts reads it, and no number changes by it here",
    ),
    (
        r"o_lora_rank|o_groups|mla_.*|use_sliced_mla_proj|indexer_.*|compressed_rope_.*|use_qk_clip|qk_clip_threshold",
        "only latent attention reads it, and no number of a forward pass changes by it here",
    ),
    (
        r"(local|global)_rope_(max_timescale|proportion)|gdn_.*|use_qk_norm_in_gdn|moba_.*|"
        r"temperature_.*|mrope_section|engram_.*|mhc_.*|enable_mhc_lite|use_mhc_.*|sinkhorn_.*|vocab_size_per_layer_.*|"
        r"position_id_per_seconds|causal_block_size",
        "only blocks that do not exist here read it",
    ),
    (
        r".*_for_vit|.*_for_audio|image_.*|video_.*|audio_.*|.*_placeholder|vision_.*|freeze_.*|dtype_mm|use_audio_.*|"
        r"max_num_images_.*",
        "only images and sound need it",
    ),
    (
        r"opt_type|adam.*|mu_dtype|muon_.*|learning_rate.*|lr_.*|wsd_.*|warmup_.*|gradient_.*|grad_dtype|skip_step_.*|"
        r"z_loss_multiplier|trainable_parameters_mask|steps|distill_.*|use_dpo|use_sft|sft_.*|.*diloco.*|lora.*|"
        r"abort_on_.*|block_diffusion_.*|.*_overlapping_.*|use_sequential_layers|dense_init_scale|init_weights_seed",
        "training, not the model: see impl.training.settings",
    ),
    (
        r"attention|(local_|experimental_)?sa_.*|(local_)?use_splash_.*|use_(jax|tokamax)_splash|ring_scan_unroll|"
        r"use_iota_embed|float32_logits|float32_qk_product|cast_logits_to_fp32|num_vocab_tiling|vocab_tiling_.*|"
        r"use_max_logit_.*|cost_estimate_.*|dq_reduction_steps|reshape_q|force_q_layout|.*cache_axis_order|"
        r"compute_axis_order|enable_padding_causal_mask|use_batch_split_.*|batch_split_.*|shardy",
        "how a number is computed, not which",
    ),
    (
        r".*parallelism|ici_.*|dcn_.*|.*mesh.*|.*sharding.*|shard_.*|logical_axis_rules.*|override_.*|.*pipeline.*|"
        r"(num|scan)_layers_per_.*|context_.*|ulysses_.*|.*remat_policy_.*|.*_host_offload|num_slices|subslice_shape|"
        r"hardware|compile.*|internal_compile.*|check_vma|allow_split_.*|dense_fsdp_.*|te_comm_.*|force_unroll|"
        r"decoder_layer_input|.*_proj|mlpw.*|mla_q|mla_kv|attention_out|engram|context|indexer_cutoff_threshold",
        "where the model runs, not what it is",
    ),
    (
        r"model_name|run_name|.*checkpoint.*|load_.*|.*ckpt.*|save_.*|.*tokeniz.*|.*dataset.*|grain_.*|hf_.*|olmo_.*|"
        r".*batch_size.*|.*data.*|.*profil.*|xprof_.*|enable_.*|monitor_.*|log_.*|metrics_file|gcs_metrics|.*wandb.*|"
        r"eval_.*|train_.*|packing|.*prefill.*|inference_.*|decode_.*|.*goodput.*|.*heartbeat.*|report_.*|dump_.*|"
        r"jax_.*|vllm_.*|elastic_.*|managed_.*|use_vertex_.*|vertex_.*|hlo_.*|prometheus_.*|prompt|default_prompt|"
        r".*quant.*|chat_.*|use_chat_.*|add_[be]os|use_truncation|max_(checkify|corpus_chars|segments_.*|num_ch.*)|"
        r"num_epoch|global_rampup_.*|expansion_factor_.*|generate_.*|multi_.*|return_log_prob|.*skip_.*|"
        r"local_checkpoint_.*|mtc_.*|base_output_directory|reuse_.*|record_internal_.*|model_call_mode|"
        r"constant_bound_config|target_eval_loss|prefix_caching_.*|max_inflight_.*|step_deviation_.*|tpu_.*|"
        r"upload_.*|hide_.*|autoregressive_decode_.*|optimize_mesh_.*|custom_.*|weight_sparsity_.*|.*elastic.*|"
        r"write_.*|remove_size_.*|debug_.*|stack_.*|use_chunked_.*|quantize_.*|topology_.*|mesh_.*",
        "of the run, not of the model",
    ),
)
"""(pattern, why): keys that leave the model as it is, the first pattern that matches the whole key counts."""
