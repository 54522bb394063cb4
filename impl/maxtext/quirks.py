"""What MaxText 0.2.4 makes of its own keys before a model sees them, as fields of ModelConfig."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from impl.config import ModelConfig
from impl.maxtext.keys import EXPERTS_OF_MLP_DIM, MIXTURES, READ_BY
from impl.maxtext.values import number, typed
from impl.stacks import CYCLES
from impl.validation import REMAT_POLICIES

__all__ = ["quirks"]

_NEVER_NEGATIVE = ("mlp_activations_limit", "local_rope_max_timescale", "n_routing_groups", "topk_routing_group")
"""Keys whose -1 says that there is no such thing, which is 0 here."""


def quirks(mapping: Mapping[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Fields of ModelConfig from MaxText's values, its quirks applied. mapping: the file; values: with its defaults."""
    block = values["decoder_block"]
    for key in READ_BY.keys() & values.keys():
        if block not in READ_BY[key]:
            values[key] = ModelConfig.__dataclass_fields__[key].default
    for key in (*_NEVER_NEGATIVE, "trainable_position_size"):
        values[key] = max(0, typed(key, values[key]))
    dropout = values.pop("enable_dropout")
    values["dropout_rate"] = values["dropout_rate"] if dropout else 0.0
    if values["remat_policy"] not in REMAT_POLICIES:
        values["remat_policy"] = "full"
    if "max_prefill_predict_length" not in mapping and number(values["max_target_length"]) <= 64:
        values["max_prefill_predict_length"] = max(1, int(values["max_target_length"]) // 2)
    return values | _layers(mapping, values) | _routing(mapping, values) | _rotation(mapping, values) | _head(values)


def _layers(mapping: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    block, found = values["decoder_block"], dict[str, Any]()
    if block == "gemma3":
        found["use_qk_norm"] = True
    if block == "deepseek":
        found["attention_type"] = "mla"
    if block in ("gpt_oss", "olmo3") and values["scan_layers"]:
        # MaxText's blocks begin their pattern anew: a cycle of 1 makes every layer local.
        interval = int(number(mapping.get("inhomogeneous_layer_cycle_interval", 1)))
        cycle = tuple(CYCLES[block][inner % len(CYCLES[block])] for inner in range(interval))
        found["layer_cycle"] = () if cycle == CYCLES[block] else cycle
    return found


def _routing(mapping: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The deepseek block asks the model's name whether there are groups, and whether the bias stays out of the weights.

    The load-balance loss takes a softmax of what experts were compared by.
    """
    block, found = values["decoder_block"], dict[str, Any]()
    if block in EXPERTS_OF_MLP_DIM:
        found["moe_mlp_dim"] = values["mlp_dim"]
    if block in MIXTURES and values["load_balance_loss_weight"]:
        found["load_balance_probabilities"] = "maxtext-0.2.4"
    if block == "deepseek" and not str(mapping.get("model_name", "")).startswith("deepseek3"):
        found |= {"n_routing_groups": 0, "topk_routing_group": 0, "biased_weights": bool(values["routed_bias"])}
    return found


def _rotation(mapping: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A model's name alone switches on the slowed frequencies, whatever rope_type says.

    olmo3's local layers are stretched too, though its model file's own comment says that they are not.
    """
    name, kind = str(mapping.get("model_name", "")), str(values["rope_type"]).lower()
    slowed = "llama3.1" in name or kind.startswith("llama3.1")
    return {"rope_type": "llama3.1" if slowed else kind, "stretched_local": values["decoder_block"] == "olmo3"}


def _head(values: Mapping[str, Any]) -> dict[str, Any]:
    """An untied head is neither divided nor capped; the tied one multiplies by a table rounded to bfloat16."""
    tied = bool(values["logits_via_embedding"])
    return {
        "normalize_embedding_logits": tied and values["normalize_embedding_logits"],
        "final_logits_soft_cap": values["final_logits_soft_cap"] if tied else 0.0,
        "round_tied_table": tied,
    }
