"""The one description of a model: what it refuses, and in which words; what follows from its fields."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import pytest

from impl.config import BLOCKS, ConfigError, ModelConfig, tiny
from impl.tiny import FAMILIES, family
from impl.training.settings import TrainSettings

MIXTRAL = {"decoder_block": "mixtral", "num_experts": 5, "num_experts_per_tok": 2, "moe_mlp_dim": 14}
GPT3 = {"decoder_block": "gpt3", "num_kv_heads": 4, "trainable_position_size": 32}

POSITIVE = (
    *("vocab_size", "emb_dim", "num_query_heads", "num_kv_heads", "head_dim", "mlp_dim", "num_decoder_layers"),
    *("max_target_length", "max_prefill_predict_length", "rope_min_timescale", "rope_max_timescale"),
)

REFUSED = {
    **{f"{name}={value}": ({name: value}, (f"{name}={value}", "at least 1")) for name in POSITIVE for value in (0, -3)},
    "heads": ({"num_query_heads": 5}, ("num_query_heads=5", "num_kv_heads=2", "multiple")),
    "odd head": ({"head_dim": 7}, ("head_dim=7", "odd", "rotary")),
    "no room": (
        {"max_prefill_predict_length": 24},
        ("max_prefill_predict_length=24", "max_target_length=24", "smaller"),
    ),
    "rate of 1": ({"dropout_rate": 1.0}, ("dropout_rate=1.0", "[0, 1)")),
    "negative rate": ({"dropout_rate": -0.1}, ("dropout_rate=-0.1", "[0, 1)")),
    "rate not a number": ({"dropout_rate": math.nan}, ("dropout_rate=nan", "[0, 1)")),
    "block": ({"decoder_block": "llama7"}, ("decoder_block='llama7'", *BLOCKS)),
    "rope": ({"rope_type": "alibi"}, ("rope_type='alibi'", "default, llama3.1, yarn")),
    "dtype": ({"dtype": "float16"}, ("dtype='float16'", "float32, bfloat16")),
    "weight dtype": ({"weight_dtype": "int8"}, ("weight_dtype='int8'", "float32, bfloat16")),
    "remat": ({"remat_policy": "some"}, ("remat_policy='some'", "none, full, minimal, save_dot_except_mlp")),
    "scan axis": ({"param_scan_axis": 2}, ("param_scan_axis=2", "0, 1")),
    "precision": ({"matmul_precision": "float32"}, ("matmul_precision='float32'", "default, high, highest")),
    "activation": ({"mlp_activations": ("silu", "tanh")}, ("('silu', 'tanh')", "gelu, linear, relu, sigmoid, silu")),
    "no activation": ({"mlp_activations": ()}, ("mlp_activations=()", "gelu")),
    "gpt3 heads": ({**GPT3, "num_kv_heads": 2}, ("num_query_heads=4", "num_kv_heads=2", "equal")),
    "gpt3 positions": (
        {**GPT3, "trainable_position_size": 23},
        ("trainable_position_size=23", "max_target_length=24"),
    ),
    "untied norm": (
        {"normalize_embedding_logits": True},
        ("normalize_embedding_logits=True", "logits_via_embedding=False", "set one"),
    ),
    "untied rounding": ({"round_tied_table": True}, ("round_tied_table=True", "logits_via_embedding=False")),
    "cycle": ({"decoder_block": "gemma3", "layer_cycle": ("local", "far")}, ("local or global, not 'far'",)),
    "cycle of equals": ({"layer_cycle": ("local",)}, ("layer_cycle=('local',)", "llama2", "leave it empty")),
    "dense layers": ({"first_num_dense_layers": 4}, ("first_num_dense_layers=4", "num_decoder_layers=3")),
    "no width": ({**MIXTRAL, "moe_mlp_dim": 0}, ("moe_mlp_dim=0", "at least 1")),
    "too many chosen": ({**MIXTRAL, "num_experts_per_tok": 6}, ("num_experts_per_tok=6", "num_experts=5")),
    "score": ({**MIXTRAL, "routed_score_func": "tanh"}, ("routed_score_func='tanh'", "sigmoid")),
    "groups": ({**MIXTRAL, "n_routing_groups": 2}, ("n_routing_groups=2", "num_experts=5", "topk_routing_group=0")),
    "closed groups": (
        {**MIXTRAL, "n_routing_groups": 5, "topk_routing_group": 1},
        ("num_experts_per_tok=2 exceeds the 1 experts", "topk_routing_group=1"),
    ),
    "no capacity": ({**MIXTRAL, "capacity_factor": 0.0}, ("capacity_factor=0.0", "make it positive, or -1")),
    "capacity of sorted tokens": (
        {**MIXTRAL, "capacity_factor": 1.5, "sparse_matmul": True},
        ("capacity_factor=1.5 with sparse_matmul=True", "use -1"),
    ),
    "no bias": ({**MIXTRAL, "routed_bias_update_rate": 0.1}, ("routed_bias_update_rate=0.1", "set routed_bias")),
    "negative balance": ({**MIXTRAL, "load_balance_loss_weight": -0.1}, ("load_balance_loss_weight=-0.1", "negative")),
    "one frequency": ({"rope_type": "yarn", "rope_max_timescale": 1}, ("rope_max_timescale=1", "more than 1")),
    **{
        f"negative {name}": ({name: -2}, (f"{name}=-2", "negative"))
        for name in (
            *("normalization_layer_epsilon", "sliding_window_size", "trainable_position_size"),
            *("final_logits_soft_cap", "attn_logits_soft_cap"),
        )
    },
}


@pytest.mark.parametrize(("settings", "words"), REFUSED.values(), ids=REFUSED)
def test_what_makes_no_sense_is_refused_with_its_fields_and_values(settings, words):
    with pytest.raises(ConfigError) as refused:
        ModelConfig(name="odd-one", **settings)
    message = str(refused.value)
    assert message.startswith("odd-one: ")
    assert [word for word in words if word not in message] == []


def test_the_edges_of_what_is_refused_are_accepted():
    assert tiny(dropout_rate=0.999, max_prefill_predict_length=23, num_kv_heads=4).dropout_rate == 0.999
    assert tiny(**{**GPT3, "trainable_position_size": 24}).trainable_position_size == 24
    assert tiny(decoder_block="gemma2", sliding_window_size=0).sliding_window_size == 0


def test_overriding_names_unknown_fields_all_of_them_and_lists_the_known():
    with pytest.raises(ConfigError, match=r"tiny: no such field: emb_dims, vocab\. Fields are .*emb_dim, enable_nnx"):
        tiny().overriding({"vocab": 31, "emb_dim": 22, "emb_dims": 22})
    with pytest.raises(ConfigError, match="no such field: layers"):
        tiny(layers=3)


def test_overriding_keeps_the_rest_leaves_the_old_one_alone_and_validates_again():
    before = tiny(mlp_dim=46)
    after = before.overriding({"emb_dim": 22})
    assert (after.emb_dim, after.mlp_dim, before.emb_dim) == (22, 46, 20)
    assert before.overriding({}) == before
    with pytest.raises(ConfigError, match="num_query_heads=4 is not a multiple of num_kv_heads=3"):
        before.overriding({"num_kv_heads": 3})
    with pytest.raises(FrozenInstanceError):
        before.emb_dim = 8


@pytest.mark.parametrize("name", FAMILIES)
def test_queries_are_scaled_once_in_the_kernel_or_in_the_pass(name):
    explicit = {"qwen3", "gpt3"}
    scale = family(name).query_scale
    assert scale == (pytest.approx(6**-0.5, rel=1e-15) if name in explicit else 1.0)
    assert family(name, use_qk_norm=True, head_dim=10).query_scale == pytest.approx(10**-0.5, rel=1e-15)


def test_only_gpt3_stores_its_norm_scales_less_one():
    assert {name: family(name).norm_offset for name in FAMILIES} == {name: float(name == "gpt3") for name in FAMILIES}


def test_parameters_are_counted_by_hand():
    v, e, h, k, d, f, count = 259, 20, 4, 2, 6, 44, 3
    layer = 2 * e + e * h * d + 2 * e * k * d + h * d * e + 3 * e * f
    assert family("llama2").parameters == 2 * v * e + e + count * layer
    assert family("llama2", scan_layers=True).parameters == 2 * v * e + e + count * layer
    assert family("qwen3").parameters == v * e + e + count * (layer + 2 * d)
    fused = layer + (h + 2 * k) * d + e + 2 * f + e
    assert family("fused").parameters == 2 * v * e + e + count * fused


def test_rope_takes_every_field_of_the_configuration():
    config = tiny(
        rope_type="yarn",
        head_dim=10,
        rope_min_timescale=3,
        rope_max_timescale=777,
        rope_linear_scaling_factor=2.5,
        rope_factor=13.0,
        original_max_position_embeddings=512,
        beta_fast=17.0,
        beta_slow=2.0,
        rope_interleave=False,
        rope_truncate=False,
        rope_attention_scaling=True,
    )
    rope = config.rope
    assert (rope.kind, rope.head_dim, rope.min_timescale, rope.max_timescale) == ("yarn", 10, 3, 777)
    assert (rope.linear_factor, rope.factor, rope.original_length) == (2.5, 13.0, 512)
    assert (rope.beta_fast, rope.beta_slow) == (17.0, 2.0)
    assert (rope.interleave, rope.truncate, rope.attention_scaling) == (False, False, True)


SETTINGS = {
    "optimizer": ({"opt_type": "lion"}, ("opt_type='lion'", "adamw, adam_pax, sgd")),
    "schedule": ({"schedule": "linear"}, ("schedule='linear'", "scalar, constant, cosine")),
    "accumulation": ({"gradient_accumulation_steps": 0}, ("gradient_accumulation_steps=0", "at least 1")),
    "tiles": ({"num_vocab_tiling": 0}, ("num_vocab_tiling=0", "at least 1")),
    "tiled gradients": (
        {"vocab_tiling_gradients": "wrong"},
        ("vocab_tiling_gradients='wrong'", "exact, maxtext-0.2.4"),
    ),
    "warmup": ({"warmup_steps": 40}, ("warmup_steps=40", "schedule_steps=40", "lower")),
}


@pytest.mark.parametrize(("settings", "words"), SETTINGS.values(), ids=SETTINGS)
def test_train_settings_refuse_in_the_same_manner(settings, words):
    with pytest.raises(ConfigError) as refused:
        TrainSettings(**settings)
    assert [word for word in words if word not in str(refused.value)] == []


def test_a_warmup_longer_than_the_schedule_is_no_matter_without_a_schedule():
    assert TrainSettings(schedule="constant", warmup_steps=90).warmup_steps == 90
