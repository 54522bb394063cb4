"""What is run on the plain model and on both sides: every family, and settings that turn on what no family has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from impl.config import ModelConfig
from impl.inputs import batches
from impl.params import draw
from impl.tiny import FAMILIES, MIXED, family
from impl.training.objective import Batch
from impl.training.settings import TrainSettings

ROWS, LENGTH, SEED = 2, 13, 1
SIDES = ("linen", "nnx")
SETTINGS = TrainSettings(z_loss_multiplier=2e-2)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model and how far apart its positions lie: the n-th of a segment is n * stride, plus offset in odd rows."""

    config: ModelConfig
    stride: int = 1
    offset: int = 17

    @cached_property
    def weights(self):
        return draw(self.config, SEED)

    @cached_property
    def batch(self):
        """Two rows of two and three segments and padding, tokens of unequal number.

        The padding holds tokens and positions of its own: one that is all alike would not show what it sees.
        """
        made = batches(rows=ROWS, length=LENGTH, steps=1, seed=SEED)
        fields = Batch(*[made[f"step0/{name}"] for name in Batch._fields])
        column, padding = np.arange(LENGTH, dtype=np.int32), fields.segment_ids == 0
        places = np.where(padding, column % 3, fields.positions) * np.int32(self.stride)
        places[1::2] += np.int32(self.offset)
        return fields._replace(tokens=np.where(padding, 40 + 7 * column, fields.tokens), positions=places)


def case(name, *, stride=1, offset=17, **settings):
    """A family in small: one block unless told otherwise, and a vocabulary of what text needs."""
    small = {"num_decoder_layers": 1, "vocab_size": 131}
    return Case(config=family(name, **{**small, **settings}), stride=stride, offset=offset)


WHOLE = {name: case(name, num_decoder_layers=2 if name == "fused" else 1) for name in FAMILIES}
"""Every family, one of them with two blocks: what one after the other does is done alike in all."""

SHORT = {
    "deepseek": {"num_decoder_layers": 2, "first_num_dense_layers": 1},
    # Stretched forty times, an angle errs by as many roundings: rows begin near one another.
    "deepseek_mla": {"first_num_dense_layers": 0, "offset": 3},
    "deepseek_mla_lora": {"num_decoder_layers": 2, "rope_factor": 8.0, "offset": 3},
    "gemma3": {"num_decoder_layers": 2, "layer_cycle": ("local", "global")},
    "gpt_oss": {"num_decoder_layers": 2},
    "mixtral": {"per_expert_scale": True, "capacity_factor": 0.8},
    "olmo3": {"num_decoder_layers": 2},
}
MIXTURES = {name: case(name, **SHORT.get(name, {})) for name in MIXED}
"""Every family with experts, latents or layers that are not all alike, with as many layers as it has kinds."""

SLOPES = ("fused", "gemma2", "gpt3", "qwen3", "olmo3", "deepseek_mla_lora", "deepseek, as MaxText 0.2.4")
"""Cases whose gradients are compiled, which takes four times as long: every class of block, each with its extras."""

SWITCHES = {
    # Wavelengths 6, 167, 4443 and 118142: as before, as before, mixed, slowed.
    "llama3.1, all zones": case("llama3.1", head_dim=8, stride=17),
    # Pair 0 is kept, 1 is mixed, the rest are slowed.
    "yarn, neighbours, scaled": case(
        "mistral",
        head_dim=10,
        original_max_position_embeddings=64,
        beta_fast=4.0,
        beta_slow=1.2,
        rope_factor=3.0,
        rope_interleave=True,
        rope_truncate=False,
        rope_attention_scaling=True,
        stride=2,
    ),
    "stretched, capped, three activations": case(
        "llama2",
        rope_min_timescale=3,
        rope_linear_scaling_factor=2.5,
        attn_logits_soft_cap=1.5,
        final_logits_soft_cap=2.0,
        mlp_activations=("relu", "sigmoid", "linear"),
        num_kv_heads=1,
    ),
    "qwen3, fused, biased, untied": case(
        "qwen3",
        fused_qkv=True,
        attention_bias=True,
        mlp_bias=True,
        logits_via_embedding=False,
        normalization_layer_epsilon=3e-2,
    ),
    # No query of a local layer sees anything: the mean of all values. Only the last norm reads its epsilon.
    "gemma2, bare, window 0": case(
        "gemma2",
        use_post_attn_norm=False,
        use_post_ffw_norm=False,
        logits_via_embedding=False,
        normalize_embedding_logits=False,
        attention_bias=True,
        sliding_window_size=0,
        normalization_layer_epsilon=3e-2,
    ),
    "gemma2, window 2, normed queries": case(
        "gemma2", sliding_window_size=2, use_qk_norm=True, use_post_ffw_norm=False
    ),
    "gpt3, apart, gated": case(
        "gpt3",
        fused_qkv=False,
        mlp_activations=("gelu", "linear"),
        normalize_embedding_logits=True,
        normalization_layer_epsilon=3e-2,
    ),
    "llama2, learned positions, rounded table": case(
        "llama2",
        trainable_position_size=41,
        logits_via_embedding=True,
        round_tied_table=True,
        offset=29,
    ),
    # The bias is in the weights, and a softmax of the biased scores in the load-balance loss: a gradient reaches it.
    "deepseek, as MaxText 0.2.4": case(
        "deepseek",
        num_decoder_layers=2,
        first_num_dense_layers=1,
        n_routing_groups=0,
        topk_routing_group=0,
        biased_weights=True,
        load_balance_probabilities="maxtext-0.2.4",
    ),
    "olmo3, as MaxText 0.2.4": case("olmo3", num_decoder_layers=2, stretched_local=True),
}

CASES = {**WHOLE, **MIXTURES, **SWITCHES}
