"""Heads clipped after the update by their largest logits: some and not others, other ones in every layer."""

from harness import Scenario
from impl.tiny import family
from impl.training.settings import TrainSettings

PLAIN, LORA = "deepseek_mla", "deepseek_mla_lora"
SILENT = {"load_balance_loss_weight": 0.0, "routed_bias_update_rate": 0.0}
CALM = TrainSettings(adam_eps=1e-4, schedule="constant")
THREE = TrainSettings(adam_eps=1e-4, schedule="constant", gradient_accumulation_steps=3)


def clipped(name, **settings):
    """A threshold among the largest logits that the drawn weights give."""
    return family(name, use_qk_clip=True, qk_clip_threshold=4.6, **settings)


def dense(name, **settings):
    """No experts: quick to compile."""
    return clipped(name, first_num_dense_layers=3, **SILENT, **settings)


SCENARIO = Scenario(
    why="one side clipped nothing because its state's paths begin with another key, and stacked layers shared a scale",
    program="qk_clip",
    settings={"steps": 2, "train": CALM, "offset": 3000},
    matrix={
        "lora-scan1": {"config": dense(LORA, scan_layers=True)},
        "plain": {"config": dense(PLAIN)},
        "lora": {"config": clipped(LORA)},
        "plain-scan0-remat": {
            "config": clipped(PLAIN, scan_layers=True, param_scan_axis=0, remat_policy="save_dot_except_mlp")
        },
        "accumulated-scan1": {"config": dense(PLAIN, scan_layers=True), "rows": 6, "train": THREE},
    },
    quick=("lora-scan1",),
    faults=("linen_clip_finds_nothing", "both_layers_share_a_scale", "clip_before_update", "clip_logits_leak"),
)
