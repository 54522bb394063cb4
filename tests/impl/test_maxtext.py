"""MaxText's configuration format: what is taken, what is refused, what is of no matter and said so."""

from __future__ import annotations

import json

import pytest

from impl.config import ConfigError
from impl.latent import Latent
from impl.maxtext import from_maxtext, read, read_maxtext
from impl.mixture import Mixture
from impl.presets import preset

MODELS = {
    "deepseek2-16b": "deepseek2-16b",
    "deepseek3-671b": "deepseek3-671b",
    "kimi-k2-1t": "kimi-k2-1t",
    "gemma2-2b": "gemma2-2b",
    "gemma3-4b": "gemma3-4b",
    "gpt-oss-20b": "gpt-oss-20b",
    "gpt3-6b": "gpt3-6b",
    "llama2-7b": "llama2-7b",
    "llama3.1-405b": "llama3.1-405b",
    "mixtral-8x7b": "mixtral-8x7b",
    "olmo3-7b": "olmo3-7b",
    "qwen3-30b-a3b": "qwen3-30b-a3b",
    "qwen3-0.6b": "qwen3-0.6b",
}

ELSEWHERE = {
    "qwen3-next-80b-a3b": "qwen3_next",
}

SHAPE = (
    *("vocab_size", "emb_dim", "num_query_heads", "num_kv_heads", "head_dim", "mlp_dim", "num_decoder_layers"),
    *("mlp_activations", "logits_via_embedding", "normalize_embedding_logits", "final_logits_soft_cap"),
    *("attn_logits_soft_cap", "sliding_window_size", "normalization_layer_epsilon", "use_qk_norm", "fused_qkv"),
    *("use_post_attn_norm", "use_post_ffw_norm", "trainable_position_size", "rope_type", "rope_max_timescale"),
    *("decoder_block", "attention_bias", "mlp_bias", *Mixture.__dataclass_fields__),
    *Latent.__dataclass_fields__,
)

YARN = (
    *("rope_factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "rope_interleave", "rope_truncate"),
    "rope_attention_scaling",
)


OF_THE_RELEASE = {"kimi-k2-1t": {"biased_weights": True}, "olmo3-7b": {"stretched_local": True}}
"""What MaxText 0.2.4 computes and a preset does not, because the model's authors say otherwise (docs/design.md)."""


@pytest.fixture
def models(maxtext):
    return maxtext("models")


@pytest.mark.parametrize("name", MODELS)
def test_a_model_file_is_the_preset_of_that_name(models, name):
    found, ours = read_maxtext(models / f"{name}.yml"), preset(MODELS[name])
    shape = SHAPE + (YARN if ours.rope_type == "yarn" and ours.decoder_block != "mistral" else ())
    expected = {key: getattr(ours, key) for key in shape} | OF_THE_RELEASE.get(name, {})
    assert {key: getattr(found, key) for key in shape} == expected


@pytest.mark.parametrize("name", ELSEWHERE)
def test_blocks_that_do_not_exist_here_are_refused(models, name):
    words = f"decoder_block '{ELSEWHERE[name]}' does not exist here: there are deepseek, gemma2,"
    with pytest.raises(ConfigError, match=words):
        read_maxtext(models / f"{name}.yml")


def test_every_model_file_is_tried(models):
    assert {path.stem for path in models.glob("*.yml")} == {*MODELS, *ELSEWHERE, "gpt3-52k"}
    assert read_maxtext(models / "gpt3-52k.yml").parameters == 52_464


def test_defaults_are_maxtexts():
    config = from_maxtext({})
    assert (config.decoder_block, config.head_dim, config.vocab_size, config.emb_dim) == ("llama2", 128, 32_000, 2048)
    assert (config.dtype, config.weight_dtype, config.scan_layers, config.remat_policy) == (
        *("bfloat16", "float32", True),
        "full",
    )
    assert config.max_prefill_predict_length == 64
    assert from_maxtext({"max_target_length": 10}).max_prefill_predict_length == 5


def test_resolved_names_and_base_names_say_the_same():
    sizes = {"emb_dim": 12, "num_query_heads": 6, "num_kv_heads": 3, "mlp_dim": 20, "num_decoder_layers": 5}
    resolved = from_maxtext(sizes)
    assert {name: getattr(resolved, name) for name in sizes} == sizes
    assert from_maxtext({f"base_{name}": value for name, value in sizes.items()}) == resolved
    scaled = {**sizes, "base_emb_dim": 6, "global_parameter_scale": 4}
    assert from_maxtext(scaled) == resolved
    with pytest.raises(ConfigError, match="emb_dim=12 and base_emb_dim=6 differ at scale 1"):
        from_maxtext({**sizes, "base_emb_dim": 6})
    with pytest.raises(ConfigError, match="global_parameter_scale=4 needs resolved sizes"):
        from_maxtext({"base_emb_dim": 6, "global_parameter_scale": 4})


GPT_OSS = {"decoder_block": "gpt_oss", "num_experts": 8, "num_experts_per_tok": 2, "attention_sink": True}
DEEPSEEK = {
    "model_name": "kimi-tiny",
    "decoder_block": "deepseek",
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "routed_score_func": "sigmoid",
    "routed_bias": True,
    "n_routing_groups": 4,
    "topk_routing_group": 2,
    "norm_topk_prob": True,
    "attention_type": "mla",
}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"model_name": "llama3.1-8b"}, {"rope_type": "llama3.1"}),
        ({"model_name": "my-llama3.1-8b", "rope_type": "yarn"}, {"rope_type": "llama3.1"}),
        ({"rope_type": "llama3.1"}, {"rope_type": "llama3.1"}),
        ({"rope_type": "YARN", "rope_factor": 8}, {"rope_type": "yarn", "rope_factor": 8.0}),
        ({"enable_dropout": False, "dropout_rate": 0.25}, {"dropout_rate": 0.0}),
        ({"dropout_rate": 0.25}, {"dropout_rate": 0.25}),
        ({"logits_via_embedding": True}, {"normalize_embedding_logits": True, "round_tied_table": True}),
        ({}, {"normalize_embedding_logits": False, "round_tied_table": False}),
        ({"final_logits_soft_cap": 7.5}, {"final_logits_soft_cap": 0.0}),
        ({"final_logits_soft_cap": 7.5, "logits_via_embedding": True}, {"final_logits_soft_cap": 7.5}),
        ({"attn_logits_soft_cap": None}, {"attn_logits_soft_cap": 0.0}),
        ({"decoder_block": "gemma2", "sliding_window_size": 0}, {"sliding_window_size": 0}),
        ({"decoder_block": "gemma2", "sliding_window_size": 9}, {"sliding_window_size": 9}),
        ({"decoder_block": "mistral", "sliding_window_size": 9}, {"sliding_window_size": 0}),
        ({"decoder_block": "mistral", "attn_logits_soft_cap": 9.0}, {"attn_logits_soft_cap": 0.0}),
        ({"use_qk_norm": True}, {"use_qk_norm": False, "query_scale": 1.0}),
        ({"decoder_block": "qwen3", "use_qk_norm": False, "head_dim": 4}, {"query_scale": 0.5}),
        ({"attention_bias": True, "mlp_bias": True}, {"attention_bias": False, "mlp_bias": False}),
        ({"normalization_layer_epsilon": "1e-6"}, {"normalization_layer_epsilon": 1e-6}),
        ({"remat_policy": "save_out_proj"}, {"remat_policy": "full"}),
        ({"remat_policy": "minimal"}, {"remat_policy": "minimal"}),
        # Run with MaxText 0.2.4 itself: see docs/design.md.
        ({**GPT_OSS, "mlp_dim": 40, "moe_mlp_dim": 24}, {"moe_mlp_dim": 40, "mlp_dim": 40}),
        ({**GPT_OSS, "load_balance_loss_weight": 0.1}, {"load_balance_probabilities": "maxtext-0.2.4"}),
        (DEEPSEEK, {"biased_weights": True, "n_routing_groups": 0, "topk_routing_group": 0, "norm_topk_prob": False}),
        (
            {**DEEPSEEK, "model_name": "deepseek3-tiny"},
            {"biased_weights": False, "n_routing_groups": 4, "topk_routing_group": 2, "norm_topk_prob": False},
        ),
        ({"decoder_block": "olmo3"}, {"stretched_local": True}),
        ({"decoder_block": "gemma3", "sliding_window_size": 9}, {"stretched_local": False}),
        ({"mtp_num_layers": 2}, {"mtp_num_layers": 2, "mtp_loss_scaling_factor": 0.1, "mtp_eval_target_module": 0}),
    ],
)
def test_quirks_are_honoured(given, expected):
    config = from_maxtext(given)
    assert {name: getattr(config, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"num_experts": 8}, "num_experts=8: mixtures of experts do not exist here; only 1 can be read"),
        ({"decoder_block": "deepseek", "attention_type": "global"}, "attention_type='global': deepseek's layers"),
        ({**GPT_OSS, "routed_bias": True, "routed_score_func": "sigmoid"}, "gpt_oss adds its bias to scores there"),
        ({"attention_type": "mla"}, "attention_type='mla': .*only 'global' can be read"),
        ({"fused_mlp": True, "moba": True}, "fused_mlp=True: .*; moba=True: "),
        ({"quantization": "int8"}, "quantization='int8': nothing is quantised here"),
        ({"base_emb_dimm": 64}, "base_emb_dimm: unknown, and might shape the model; nearest: base_emb_dim"),
        ({"activations_in_float32": True}, "activations computes in dtype here; set dtype to float32"),
        ({"trainable_position_size": 64}, "trainable_position_size=64: llama2 turns its heads as well there"),
        ({"decoder_block": "gemma2", "local_rope_max_timescale": 5000}, "local_rope_max_timescale=5000: "),
        (
            {"decoder_block": "bert"},
            "decoder_block 'bert' does not exist here, nor in MaxText: there are deepseek, gemma2",
        ),
        ({"vocab_size": "many"}, "vocab_size='many': expected a int"),
        ({"vocab_size": True}, "vocab_size=True: expected a int"),
        ({"head_dim": 7.5}, "head_dim=7.5: expected a int"),
        ({"scan_layers": "yes"}, "scan_layers='yes': expected a bool"),
        ({"mlp_activations": "silu"}, "mlp_activations='silu': expected a tuple"),
        ({"mlp_activations": ["swish7"]}, "mlp_activations="),
        ({"rope_type": "linear"}, "rope_type='linear' is not one of"),
        ({"base_num_query_heads": 6, "base_num_kv_heads": 4}, "num_query_heads=6 is not a multiple of num_kv_heads=4"),
    ],
)
def test_what_does_not_exist_here_is_refused(given, words):
    with pytest.raises(ConfigError, match=words):
        from_maxtext(given)


def test_nothing_is_dropped_in_silence():
    given = {
        "activations_in_float32": True,
        "dtype": "float32",
        "learning_rate": 0.02,
        "ici_fsdp_parallelism": 4,
        "routed_bias": False,
        "sliding_window_size": 128,
        "final_logits_soft_cap": 30.0,
        "remat_policy": "save_out_proj",
        "logical_axis_rules": [["norm", "fsdp"]],
        "vocab_size": 77,
    }
    rows = {row.key: row for row in read(given).ignored}
    assert set(given) - set(rows) == {"dtype", "vocab_size"}
    assert rows["sliding_window_size"].reason == "llama2 does not read it"
    assert rows["final_logits_soft_cap"].reason == "only a tied head reads it"
    assert (rows["learning_rate"].value, rows["learning_rate"].reason[:8]) == ("0.02", "training")
    assert all(row.reason for row in rows.values())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("- a\n- b\n", "no keys and values"),
        ("a: [", "cannot be read"),
        ("7: 8\n", "no keys"),
        ("model: 3\n", "'model'"),
    ],
)
def test_a_file_that_is_no_model_is_refused(tmp_path, content, words):
    path = tmp_path / "strange.yml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=words):
        read_maxtext(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_maxtext(tmp_path)


def test_a_resolved_configuration_is_read_from_json(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"case": "x", "model": {"model_name": "llama3.1-8b", "vocab_size": 91}}))
    config = read_maxtext(path)
    assert (config.name, config.vocab_size, config.rope_type) == ("llama3.1-8b", 91, "llama3.1")
