"""Latent attention on both sides: the oracle's numbers, proofs of training and serving, refusals."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from impl.config import ConfigError
from impl.linen.mla import LatentAttention as LinenAttention
from impl.nnx.mla import LatentAttention as NnxAttention
from impl.params import draw, layer_parameters
from impl.serving import kv
from impl.tiny import family
from impl.trees import nested
from tests.impl.math import latent_oracle
from tests.impl.test_staging import EVERY_PART, proved

NAMES = ("deepseek_mla", "deepseek_mla_lora")
SEGMENTS = np.array([[1, 1, 1, 2, 2, 2, 0], [3, 5, 5, 5, 5, 0, 0]], np.int32)
POSITIONS = np.array([[0, 1, 2, 0, 1, 2, 3], [94, 95, 17, 40, 41, 5, 0]], np.int32)


def weights_of(config):
    """Below one layer's attention."""
    start = "decoder/dense_layers/0/self_attention/"
    return {name.removeprefix(start): value for name, value in draw(config, 11).items() if name.startswith(start)}


def linen(config, weights, x):
    params = nested({tuple(name.split("/")): value for name, value in weights.items()})
    return LinenAttention(config, "train").apply({"params": params}, x, POSITIONS, SEGMENTS)


def nnx_(config, weights, x):
    module = NnxAttention(config, rngs=nnx.Rngs(0))
    nnx.update(module, nested({tuple(name.split("/")): jnp.asarray(value) for name, value in weights.items()}))
    return module(x, POSITIONS, SEGMENTS, "train")


@pytest.mark.parametrize("run", [linen, nnx_])
@pytest.mark.parametrize("name", NAMES)
def test_the_module_is_the_formula(name, run):
    config = family(name)
    weights, x = weights_of(config), np.random.default_rng(2).normal(0.2, 1.1, (2, 7, config.emb_dim))
    with jax.default_matmul_precision("highest"):
        found = np.asarray(run(config, weights, jnp.asarray(x, jnp.float32)))
    wide = {leaf: value.astype(np.float64) for leaf, value in weights.items()}
    expected = latent_oracle.latent_attention(wide, x.astype(np.float32).astype(float), POSITIONS, SEGMENTS, config)
    # Float32 noise: sums of 20, angles of up to 95 radians known to one part in 8 million, a softmax of their cosines.
    assert np.abs(found - expected).max() < 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize(("name", "scan"), [("deepseek_mla", False), ("deepseek_mla_lora", True)])
def test_the_whole_train_step_is_proved(name, scan):
    found = proved("linen", "nnx", family(name, scan_layers=scan))
    assert list(found) == EVERY_PART
    assert {part: proof.proved for part, proof in found.items()} == dict.fromkeys(EVERY_PART, True)


@pytest.mark.parametrize(("name", "scan"), [("deepseek_mla", True), ("deepseek_mla_lora", False)])
def test_serving_is_proved_through_the_cache_of_latents(name, scan):
    config = family(name, scan_layers=scan)
    found = proved("linen", "nnx", config, "decode")
    assert {verb: proof.proved for verb, proof in found.items()} == dict.fromkeys(
        ("prefill", "insert", "generate", "sample"), True
    )
    cached = [leaf for leaf in found["generate"].equal if leaf.endswith("self_attention/MlaKVCache_0/cached_ar_key")]
    assert len(cached) == config.num_decoder_layers


def test_the_cache_holds_one_latent_and_one_turned_part_a_token():
    config = family("deepseek_mla")
    leaves = kv.declare(kv.sizes(config, 3))
    assert leaves["cached_prefill_key"].shape == (3, 8, 1, 11)
    assert leaves["cached_ar_value"].shape == (3, 16, 1, 10)
    assert leaves["cached_ar_key"].axes == ("cache_batch", "cache_sequence", "cache_heads_none", "cache_kv")
    heads = kv.declare(kv.sizes(family("deepseek"), 3))
    assert heads["cached_ar_key"].axes == ("cache_batch", "cache_sequence", "cache_heads", "cache_kv")
    assert heads["cached_ar_key"].shape == heads["cached_ar_value"].shape == (3, 16, 2, 6)


def test_parameters_by_hand():
    shapes = {row.name: row.shape for row in layer_parameters(family("deepseek_mla_lora"), "dense")}
    found = {name.removeprefix("self_attention/"): shape for name, shape in shapes.items() if "self_attention/" in name}
    assert found == {
        "wq_a/kernel": (20, 15),
        "q_norm/scale": (15,),
        "wq_b/kernel": (15, 4, 17),
        "wkv_a/kernel": (20, 21),
        "kv_norm/scale": (11,),
        "wkv_b/kernel": (11, 4, 19),
        "out/kernel": (4, 12, 20),
    }
    plain = {row.name: row.shape for row in layer_parameters(family("deepseek_mla"), "moe")}
    assert plain["self_attention/query/kernel"] == (20, 4, 17)
    assert not any("wq_" in name or "q_norm" in name for name in plain)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"attention_type": "local"}, "attention_type='local' is not one of global, mla"),
        ({"attention_type": "global"}, "kv_lora_rank=11 is of latent attention: set attention_type='mla'"),
        ({"decoder_block": "mixtral"}, "attention_type='mla' with decoder_block='mixtral'"),
        ({"kv_lora_rank": 0}, "kv_lora_rank=0 must be at least 1"),
        ({"v_head_dim": -2}, "v_head_dim=-2 must be at least 1"),
        ({"q_lora_rank": -1}, "q_lora_rank=-1 must not be negative"),
        ({"qk_rope_head_dim": 5}, "qk_rope_head_dim=5 is odd"),
        ({"num_kv_heads": 2}, "num_query_heads=4 and num_kv_heads=2 must be equal"),
        ({"use_qk_norm": True}, "use_qk_norm=True has no effect with attention_type='mla'"),
        ({"rope_factor": 0.0}, "rope_factor=0.0 must be positive"),
    ],
)
def test_what_cannot_be_is_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        family("deepseek_mla", **settings)
