"""The rules that count where none are given: MaxText's names and its default assignment, one line for each group."""

from __future__ import annotations

from impl.sharding.rules import Rules

__all__ = ["DEFAULT"]

MESH_AXES = (
    *("diloco", "data", "stage", "fsdp", "fsdp_transpose", "context", "context_usp_ulysses"),
    *("context_autoregressive", "tensor", "tensor_sequence", "expert", "autoregressive"),
)
"""Outermost first: what crosses slow links comes before what stays within a host."""

_CONTEXT = ("context", "context_usp_ulysses")
_WIDE = ("fsdp", "fsdp_transpose", *_CONTEXT, "expert")
_WIDE_OR_ELSE = ("fsdp", *_CONTEXT, "expert")
_HEADS = ("tensor", "tensor_sequence", "autoregressive")
_HIDDEN = ("fsdp_transpose", *_HEADS)
_ROWS = ("data", "fsdp", "fsdp_transpose", "expert")
_TENSORS = ("tensor", "tensor_sequence")

_GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("activation_embed_and_logits_batch", ("data", "stage", "fsdp", "fsdp_transpose", "expert")),
    ("activation_vocab activation_kv_heads activation_kv activation_kv_head_dim activation_mlp", _TENSORS),
    ("activation_mlp_moe", _TENSORS),
    ("activation_vocab", ("tensor",)),
    ("activation_vocab", ("tensor_sequence",)),
    ("vocab heads q_heads kv_heads activation_heads mlp_no_fsdp", _HEADS),
    ("embed_vocab q_lora kv_lora", _WIDE),
    ("q_lora kv_lora", _WIDE_OR_ELSE),
    ("activation_batch_attn activation_kv_batch activation_batch_moe activation_batch decode_batch", _ROWS),
    ("activation_prefill_kv_batch", _ROWS),
    ("activation_length activation_length_attn activation_length_moe activation_q_length", _CONTEXT),
    ("prefill_activation_length", _CONTEXT),
    (
        "activation_norm_length activation_norm_length_moe prefill_activation_norm_length",
        ("tensor_sequence", *_CONTEXT),
    ),
    ("activation_input_length_attn", ("tensor_sequence", "context")),
    ("activation_embed activation_embed_attn activation_embed_moe norm engram_dim paged_kv_heads", ("tensor",)),
    ("exp activation_exp", ("expert",)),
    ("mlp_moe", _HIDDEN),
    ("embed_moe", ("fsdp", "fsdp_transpose", *_CONTEXT)),
    ("embed_moe", ("fsdp", *_CONTEXT)),
    ("mlp gdn_head", _HIDDEN),
    ("embed", _WIDE),
    ("embed", _WIDE_OR_ELSE),
    ("layers activation_stage", ("stage",)),
    ("diloco", ("diloco",)),
    ("cache_heads", ("autoregressive", *_TENSORS)),
    ("exp_with_fsdp", ("fsdp",)),
    ("qkv kv kv_head_dim q_lora_up_proj kv_lora_up_proj dense_layers moe_layers local_layers mhc", ()),
    ("circular_repeats activation_kv_length decode_length cache_batch_prefill cache_batch cache_kv", ()),
    ("cache_heads_none cache_sequence num_pages tokens_per_page paged_kv_head_dim_size", ()),
)

DEFAULT = Rules(
    name="default",
    mesh_axes=MESH_AXES,
    logical=tuple((name, axes) for names, axes in _GROUPS for name in names.split()),
)
