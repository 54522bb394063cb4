"""Both sides' logits against the plain model's: every family, and every switch that no family turns on."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from impl.config import ModelConfig
from impl.prediction import Prediction
from impl.tiny import FAMILIES, MIXED
from tests.impl.plain.cases import CASES, MIXTURES, SIDES, SWITCHES, WHOLE
from tests.impl.plain.rulers import agree, exact_logits, logits_room, plain_logits

ELSEWHERE = {
    "vocab_size": "a size",
    "emb_dim": "a size",
    "num_query_heads": "a size",
    "mlp_dim": "a size",
    "dropout_rate": "off",
    "dtype": "the plain model is exact",
    "weight_dtype": "the plain model is exact",
    "matmul_precision": "the plain model is exact",
    "scan_layers": "how a number is computed, not which",
    "param_scan_axis": "how a number is computed, not which",
    "remat_policy": "how a number is computed, not which",
    "parameter_memory_host_offload": "where parameters are kept",
    "max_target_length": "bounds what is asked for, changes nothing of it",
    "max_prefill_predict_length": "bounds what is asked for, changes nothing of it",
    "quantization": "the plain model is exact",
    "amax_history_length": "the plain model is exact",
    "fuse_expert_scales": "how a number is computed, not which",
    "use_qk_clip": "clips after the update",
    "qk_clip_threshold": "clips after the update",
    **dict.fromkeys(Prediction.__dataclass_fields__, "logits know nothing of it: `test_further.py` varies it"),
    "pure_nnx": "chooses the side",
    "enable_nnx": "chooses the side",
    "pure_nnx_decoder": "chooses the side",
}
"""Fields of ModelConfig that no case varies -> why."""


@pytest.mark.parametrize("which", SIDES)
@pytest.mark.parametrize("name", CASES)
def test_logits_are_the_plain_models(name, which, logits_of):
    agree(logits_of(name, which), exact_logits(CASES[name]), logits_room(CASES[name]))


@pytest.mark.parametrize("name", CASES)
def test_the_room_is_narrow(name):
    """A ruler that stretches with what it measures would show nothing: float32 stays well under 1 in 30,000."""
    assert logits_room(CASES[name]) / float(np.abs(exact_logits(CASES[name])).max()) < 3e-5


def test_every_family_is_here_and_every_field_varies():
    assert (set(WHOLE), set(MIXTURES)) == (set(FAMILIES), set(MIXED))
    for field in (field for field in fields(ModelConfig) if field.name != "name"):
        values = {getattr(case.config, field.name) for case in CASES.values()}
        assert (len(values) > 1) is (field.name not in ELSEWHERE), f"{field.name}: {values}"


def test_the_batch_has_segments_padding_and_rows_of_unequal_weight():
    made = CASES["llama2"].batch
    assert [sorted(set(row.tolist())) for row in made.segment_ids] == [[0, 1, 2], [0, 1, 2, 3]]
    assert len(set((made.target_segments != 0).sum(axis=1).tolist())) == 2
    assert made.positions[0].max() < made.positions[1].min()
    longest = max(np.bincount(row[row > 0]).max() for row in made.segment_ids)
    assert longest > CASES["gemma2"].config.sliding_window_size


TURNED = {
    "original_max_position_embeddings": ("yarn, neighbours, scaled", 80),
    "rope_interleave": ("yarn, neighbours, scaled", False),
    "rope_truncate": ("yarn, neighbours, scaled", True),
    "rope_attention_scaling": ("yarn, neighbours, scaled", False),
    "rope_factor": ("yarn, neighbours, scaled", 3.1),
    "beta_fast": ("yarn, neighbours, scaled", 4.5),
    "beta_slow": ("yarn, neighbours, scaled", 1.1),
    "rope_max_timescale": ("llama3.1, all zones", 400_000),
    "rope_type": ("llama3.1, all zones", "default"),
    "rope_min_timescale": ("stretched, capped, three activations", 2),
    "rope_linear_scaling_factor": ("stretched, capped, three activations", 2.4),
    "attn_logits_soft_cap": ("stretched, capped, three activations", 1.6),
    "final_logits_soft_cap": ("stretched, capped, three activations", 2.1),
    "mlp_activations": ("stretched, capped, three activations", ("sigmoid", "relu", "linear")),
    "normalization_layer_epsilon": ("llama2", 2e-5),
    "sliding_window_size": ("gemma2", 6),
    "normalize_embedding_logits": ("gemma2", False),
    "round_tied_table": ("llama2, learned positions, rounded table", False),
    "layer_cycle": ("gemma3", ("global", "local")),
    "local_rope_max_timescale": ("gemma3", 20_000),
    "num_experts_per_tok": ("mixtral", 3),
    "routed_score_func": ("deepseek", "softmax"),
    "routed_scaling_factor": ("deepseek", 2.4),
    "topk_routing_group": ("deepseek", 3),
    "biased_weights": ("deepseek", True),
    "stretched_local": ("olmo3", True),
    "mlp_activations_limit": ("gpt_oss", 1.4),
    "mscale": ("deepseek_mla", 0.7),
    "max_position_embeddings": ("deepseek_mla", 0),
}
"""Field -> the case in which it is set differently, and to what. The weights stay the same."""


@pytest.mark.parametrize("field", TURNED)
def test_a_setting_turned_on_one_side_alone_is_seen(field, logits_of):
    name, value = TURNED[field]
    other = plain_logits(CASES[name], **{field: value})
    with pytest.raises(AssertionError, match="largest error"):
        agree(logits_of(name, "nnx"), other, logits_room(CASES[name]))


def test_cases_differ_from_one_another():
    assert len({case.config for case in CASES.values()}) == len(CASES) == len(WHOLE) + len(MIXTURES) + len(SWITCHES)
