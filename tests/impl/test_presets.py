"""Presets: the published sizes, and abstract states of all of them without a byte allocated."""

from __future__ import annotations

import math
from collections import Counter

import jax
import pytest
from flax import linen as nn
from flax import nnx

import impl.linen.state as linen_state
import impl.nnx.state as nnx_state
from impl.config import ConfigError
from impl.linen.transformer import Transformer as LinenTransformer
from impl.names import addresses
from impl.nnx.transformer import Transformer as NnxTransformer
from impl.params import declare
from impl.presets import preset, preset_names
from impl.training.optimizers import optimizer
from impl.training.settings import TrainSettings
from impl.trees import flat

# Counted by hand from the published sizes: V E [tied once], L (2E + EHD + 2EKD + HDE + 3EF), E; N experts have NE and
# 3NEM in place of 3EF; latent attention has H(Dn+Dr) times E, or times Q plus QE + Q, for queries, E(C+Dr) + C +
# CH(Dn+Dv) for keys and values, HDvE. Each is the published number (46.7, 30.5, 20.9, 3.88, 15.7, 671, 1026 billion).
# olmo3 (7.3 billion) norms HD queries and KD keys.
PARAMETERS = {
    "deepseek2-16b": 15_706_484_224,
    "deepseek3-671b": 671_026_419_200,
    "gemma2-2b": 2_614_636_800,
    "gemma3-4b": 3_880_099_328,
    "gpt-oss-20b": 20_914_757_184,
    "gpt3-6b": 5_588_736_000,
    "kimi-k2-1t": 1_026_408_232_448,
    "llama2-7b": 6_738_415_616,
    "llama3.1-405b": 405_853_388_800,
    "mistral-7b": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "olmo3-7b": 7_298_011_136,
    "qwen3-0.6b": 596_049_920,
    "qwen3-30b-a3b": 30_532_122_624,
}


def test_names_are_the_published_models():
    assert preset_names() == tuple(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_preset_has_the_published_size(name):
    config = preset(name)
    assert (config.name, config.parameters) == (name, PARAMETERS[name])


def test_what_sets_the_families_apart():
    assert preset("llama3.1-405b").rope_type == "llama3.1"
    gemma = preset("gemma2-2b")
    assert (gemma.num_decoder_layers, gemma.vocab_size, gemma.logits_via_embedding) == (13, 256_128, True)
    assert preset("mistral-7b").decoder_block == "mistral"
    assert preset("gpt3-6b").fused_qkv


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"no preset is called 'llama2-8b'.*nearest: llama2-7b"):
        preset("llama2-8b")


def abstract_shapes(side, config):
    """Path -> abstract leaf of the parameters of a whole train state."""
    tx = optimizer(TrainSettings())
    if side == "linen":
        state = linen_state.abstract_state(LinenTransformer(config), tx, config)
        return flat(nn.unbox(state.params["params"])), jax.tree.leaves(nn.unbox(state.opt_state))
    state = nnx_state.abstract_state(NnxTransformer, tx, config)
    leaves = flat(nnx.to_pure_dict(nnx.state(state.model, nnx.Param)))
    return leaves, jax.tree.leaves(nnx.to_pure_dict(nnx.state(state.optimizer)))


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("side", ["linen", "nnx"])
def test_the_abstract_state_is_the_declared_model(name, side):
    config = preset(name).overriding({"scan_layers": True})
    leaves, slots = abstract_shapes(side, config)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in [*leaves.values(), *slots])
    table = addresses(config, "layers_{i}")
    depths = Counter(address.path for address in table.values())
    assert set(leaves) == set(depths)
    for row in declare(config):
        address, shape = table[row.name], list(row.shape)
        if address.axis >= 0:
            shape.insert(address.axis, depths[address.path])
        assert leaves[address.path].shape == tuple(shape), row.name
        assert leaves[address.path].dtype == "float32"
    numbers = sum(math.prod(leaf.shape) for leaf in leaves.values())
    assert numbers == config.parameters
    bytes_of = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in [*leaves.values(), *slots])
    # Weights and two moments, and the counters: two int32 of AdamW's chain; NNX keeps the step with the optimizer.
    assert bytes_of == 3 * 4 * numbers + (8 if side == "linen" else 12)
